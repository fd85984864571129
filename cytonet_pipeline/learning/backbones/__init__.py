"""Encoders: backbones, their initial weights, activation checkpointing, their form on disk."""
