"""The asset group `evaluation`."""
