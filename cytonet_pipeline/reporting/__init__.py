"""Figures and tables as files. Each module draws one thing: data in, a figure out, and a file from it.

Import the modules themselves: matplotlib, plotly and nilearn are heavy, and nobody needs all of them.
"""
