"""Chains: the way from the sections of one brain to the reference, and the files that it consists of."""
