"""Encoders: backbones, their initial weights, the random control."""
