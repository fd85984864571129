"""The asset group `histology`."""
