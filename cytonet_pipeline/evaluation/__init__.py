"""Evaluation of encoders: what their features are worth. Nothing here trains an encoder or draws a figure.

features            which patches are evaluated, and their features
probes              classifiers on frozen features, and the protocols by which they are trained
metrics             scores of predictions, their intervals, how far off wrong predictions are
table               the table of results: all encoders side by side
embedding_analysis  PCA, UMAP, separation of brains, the step at the central sulcus, the surface map
maps                predicted areas on the sections of a brain and in Colin-27
"""
