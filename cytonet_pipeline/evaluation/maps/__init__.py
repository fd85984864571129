"""Maps of predicted areas: on the sections of a brain and in Colin-27."""
