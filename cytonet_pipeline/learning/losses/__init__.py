"""Contrastive losses with their distances and transfer functions, and the objectives that a method trains with."""
