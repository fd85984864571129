"""The training loop and what it leaves: checkpoints, history, weights, record."""
