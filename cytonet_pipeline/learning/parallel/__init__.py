"""Several ranks of one batch."""
