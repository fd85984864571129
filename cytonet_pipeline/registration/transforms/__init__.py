"""Point transforms: affines, displacement fields, chains, their inverses, and the file formats they are read from."""
