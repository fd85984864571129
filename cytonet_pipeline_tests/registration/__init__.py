"""Tests of the room `registration`."""
