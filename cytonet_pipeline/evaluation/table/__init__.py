"""The table of results: all encoders side by side, compared with each other, and as text."""
