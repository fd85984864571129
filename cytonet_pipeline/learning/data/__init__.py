"""From the scans to a batch: reading, packing, sampling, augmentation."""
