"""Contrastive losses, their likelihood, and the objectives that a method trains with."""
