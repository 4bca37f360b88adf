"""The whole step beside TRL's GRPOTrainer and beside its floor: ``python -m rl.bench``."""
