"""What training will need of a machine: memory, time, disk."""
