"""Chain quality: what is measured of a brain's chain, and which mistake would explain a chain that does not fit."""
