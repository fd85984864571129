"""Image quality of one scan, measured on its overview and a few patches."""
