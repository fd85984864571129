"""Masks and annotations: read, and refused where they belong to another section."""
