"""The asset group `training`."""
