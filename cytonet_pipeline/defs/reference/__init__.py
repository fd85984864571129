"""The asset group `reference`."""
