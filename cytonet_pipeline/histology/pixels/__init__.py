"""Arithmetic on pixels: averaging, grey values, tiles put together and cached, tissue against slide."""
