"""The way from the scans to a batch: reading, packing, sampling, loading, augmentation."""
