"""Chains: how the sections of one brain get from their scan planes to the reference, and the files behind it."""
