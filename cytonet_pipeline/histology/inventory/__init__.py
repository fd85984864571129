"""The inventory of a brain: which sections can take part, and which stand out among the others."""
