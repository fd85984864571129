"""Evaluation: what features are worth. Nothing here trains an encoder or draws a figure.

Features and probes: `evaluation_set` (which patches), `features` and `embedding_store` (their features), `probe_data`
(what may be trained on, chosen on, scored), `protocols` and `probes` (all of them, one by one in `linear`, `logistic`,
`knn`, `end_to_end`), `scores`, `intervals`, `compare`, and `table` (all encoders side by side).

What features look like: `projection` (UMAP), `embedding_analysis`, `area_maps`.
"""
