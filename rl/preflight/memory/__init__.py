"""How much memory a run will take, worked out from the sizes of its policy, without torch."""
