"""File formats of scans: one module or package per format behind one reader."""
