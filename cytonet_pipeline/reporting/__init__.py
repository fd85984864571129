"""Figures and tables as files. Each module draws one thing: it takes data, makes a figure and writes a file.

Import the modules themselves: matplotlib, plotly and nilearn are heavy, and no caller needs all of them.
"""
