"""The run of an encoder: the training loop, its checkpoints, history, validation monitor, result and record."""
