"""Analysis of the embedding space: PCA, UMAP, separation of brains, central sulcus, surface map."""
