"""Features of patches: which patches are evaluated, and what an encoder makes of them."""
