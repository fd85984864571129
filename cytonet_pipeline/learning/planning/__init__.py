"""What a training needs of a machine: memory, time, disk."""
