"""Point transforms: their kinds, their inverses, and the file formats that they are read from."""
