"""Questions in a run: words are sampled, nothing is painted, rewards are given what was said."""
