"""The registry of tables: every column that the store holds, its type, unit and meaning.

A column is added here first; its table's `version` goes up when a reader of the previous schema misreads the new one.
"""

from cytonet_pipeline.scores import SCORES
from cytonet_pipeline.store.contract import Column, Table


def table(name: str) -> Table:
    """Return the table of that name."""
    return TABLES[name]


_BRAIN = Column("brain", "string", "brain, without the prefix sub-")
_SAMPLE = Column("sample", "string", "histological section, without the prefix sample-")
_SECTION = Column("section", "int32", "number of the section in its series: identity, not position")
_PATCH_ID = Column("patch_id", "uint64", "stable hash of brain, sample, x and y", unique=True)
# Columns of a position in Colin-27 (RAS, mm), in the order of the axes.
REFERENCE_MM = ("ref_x_mm", "ref_y_mm", "ref_z_mm")
_ROLE = ("train", "validation", "gap", "seen_brains", "unseen_brain")
_STATUS = ("ok", "flagged", "rejected", "withdrawn")


def _reference_columns(what: str) -> tuple[Column, ...]:
    """Columns of the position of `what` in Colin-27."""
    return tuple(
        Column(name, "float32", f"{what} in Colin-27, RAS {axis} (mm)")
        for name, axis in zip(REFERENCE_MM, "xyz", strict=True)
    )


def _with_interval(name: str, meaning: str, high: float | None = None) -> tuple[Column, ...]:
    """Columns of a measure that may be missing and of its interval."""
    ends = (Column(f"{name}_{e}", "float64", f"95 % interval over blocks of sections, {e} end", nullable=True)
            for e in ("low", "high"))  # fmt: skip
    return Column(name, "float64", meaning, nullable=True, low=0, high=high), *ends


_SECTION_SCANS = Table(
    "section_scans",
    2,
    (
        _BRAIN,
        _SAMPLE,
        _SECTION,
        Column("path", "string", "scan; relative to the data set, or absolute below an allowed root", nullable=True),
        Column("digest", "string", "digest of size, IFD offsets and byte counts and sampled tiles", nullable=True),
        Column("bytes", "int64", "size of the scan's file (bytes)", low=0),
        Column("width_px", "int32", "width at full resolution (px)", low=0),
        Column("height_px", "int32", "height at full resolution (px)", low=0),
        Column("pixel_um", "float64", "edge of a full-resolution pixel (µm)", nullable=True, low=0),
        Column("levels", "int32", "levels of the pyramid, the full resolution included", low=0),
        Column("bits", "int32", "bits per sample as stored", low=0),
        Column("compression", "string", "compression of the full resolution", nullable=True),
        Column("tissue_fraction", "float32", "share of the field of view that is tissue", nullable=True, low=0, high=1),
        Column("focus", "float32", "variance of the Laplacian over the variance, in tissue", nullable=True, low=0),
        Column("background", "float32", "median grey value outside tissue (0-255)", nullable=True, low=0, high=255),
        Column(
            "staining", "float32", "median optical density of the tissue, log10(slide / grey)", nullable=True, low=0
        ),
        Column("saturation", "float32", "share of pixels in tissue that are 0 or 255", nullable=True, low=0, high=1),
        Column("folds", "float32", "excess of the darkest straight line over both its sides", nullable=True, low=0),
        Column("tears", "float32", "bare straight lines, as a share of the tissue", nullable=True, low=0),
        Column("wide_tears", "float32", "wider bare lines, as a share of the tissue", nullable=True, low=0),
        Column("picture_hash", "string", "difference hash of the tissue (512 bits)", nullable=True),
        Column(
            "gap_mm",
            "float32",
            "distance from the previous usable section of the series (brain mm)",
            nullable=True,
            low=0,
        ),
        Column("mask_path", "string", "cortex mask; null: derived from the reference", nullable=True),
        Column("mask_digest", "string", "digest of the mask's bytes", nullable=True),
        Column("annotation_path", "string", "annotated areas; null: this section is not annotated", nullable=True),
        Column("annotation_digest", "string", "digest of the annotation and the areas it names", nullable=True),
        Column("transform_digest", "string", "digest of the section's placement in the brain", nullable=True),
        Column("status", "string", "whether the section takes part", allowed=_STATUS),
        Column("reason", "string", "why it is flagged, rejected or withdrawn; empty if ok"),
        Column("remarks", "string", "the part of the reason that comes from its own files", nullable=True),
        Column("findings", "string", "how it differs from the brain's other sections, comma-separated", nullable=True),
        Column(
            "inputs", "string", "digest of all that the row was made from, modification times included", nullable=True
        ),
    ),
    "cytonet run",
)

_PATCH_INDEX = Table(
    "patch_index",
    1,
    (
        _PATCH_ID,
        _BRAIN,
        _SAMPLE,
        _SECTION,
        Column("x_px", "int32", "patch centre, right (full-resolution px, corner origin)"),
        Column("y_px", "int32", "patch centre, down (full-resolution px, corner origin)"),
        *(Column(f"brain_{a}_mm", "float32", f"centre in the brain's own space, RAS {a} (mm)") for a in "xyz"),
        *_reference_columns("centre"),
        Column("hemisphere", "string", "by atlas label, else nearer pial surface, else sign of x", allowed=("L", "R")),
        Column("annotated_area", "int32", "index in desc-areas_dseg.tsv at the centre; 0: none", low=0),
        Column("atlas_area", "int32", "index in the atlas at the reference position; 0: none", low=0),
        Column("cortex_fraction", "float32", "share of the patch inside the cortex mask", low=0, high=1),
        Column("depth", "float32", "0 at the pial, 1 at the white surface of the reference", nullable=True),
        Column(
            "obliquity_deg",
            "float32",
            "angle between section plane and surface normal (degrees)",
            nullable=True,
            low=0,
            high=90,
        ),
        Column("split", "string", "role under the data set's default held-out brain", allowed=_ROLE),
        Column("order", "uint64", "hash of seed and patch_id: a subset of n is the n smallest"),
    ),
    "cytonet run",
)

_TRAINING_SECTIONS = Table(
    "training_sections",
    1,
    (
        _BRAIN,
        _SAMPLE,
        _SECTION,
        Column("role", "string", "what the section may be used for", allowed=_ROLE),
        Column("n_patches", "int64", "patches of the section in the index", low=0),
        Column("n_training_patches", "int64", "patches of the section that the encoder sees", low=0),
        Column("path", "string", "scan, as in section_scans"),
        Column("digest", "string", "digest of the scan"),
        Column("pixel_um", "float64", "edge of a full-resolution pixel (µm)", low=0),
        Column("window_low", "float64", "grey value that becomes 0; null: 0", nullable=True),
        Column(
            "window_high",
            "float64",
            "grey value that becomes 255; null: the largest; below low: inverted",
            nullable=True,
        ),
        Column("mask_digest", "string", "digest of the cortex mask", nullable=True),
        Column("annotation_digest", "string", "digest of the annotation", nullable=True),
        Column("transform_digest", "string", "digest of the whole chain from the section to Colin-27"),
        Column("patches_digest", "string", "digest of the section's rows in the patch index"),
    ),
    "cytonet run",
)

_TRAINING_PATCHES = Table(
    "training_patches",
    1,
    (
        _PATCH_ID,
        _BRAIN,
        _SAMPLE,
        Column("role", "string", "train or validation", allowed=("train", "validation")),
        Column("x_px", "int32", "patch centre, right (full-resolution px, corner origin)"),
        Column("y_px", "int32", "patch centre, down (full-resolution px, corner origin)"),
        *_reference_columns("centre"),
        Column("annotated_area", "int32", "index in desc-areas_dseg.tsv at the centre; 0: none", low=0),
        Column("order", "uint64", "hash of seed and patch_id"),
    ),
    "cytonet run",
)

_PREDICTIONS = Table(
    "predictions",
    1,
    (
        _PATCH_ID,
        Column("split", "string", "seen_brains or unseen_brain", allowed=("seen_brains", "unseen_brain")),
        Column("area", "int32", "annotated area, hemispheres merged", low=1),
        Column("predicted_area", "int32", "most probable area", low=1),
        Column("probability", "float32", "probability of the predicted area", low=0, high=1.0001),
    ),
    "cytonet run",
)

_DRAWN_PREDICTIONS = Table(
    "drawn_predictions",
    1,
    (
        Column("patch_id", "uint64", "stable hash of brain, sample, x and y"),
        Column("draw", "int32", "number of the draw of labelled samples", low=0),
        Column("split", "string", "seen_brains or unseen_brain", allowed=("seen_brains", "unseen_brain")),
        Column("area", "int32", "annotated area, hemispheres merged", low=1),
        Column("predicted_area", "int32", "most probable area in this draw", low=1),
    ),
    "cytonet run",
)

_METRICS = Table(
    "metrics",
    1,
    (
        Column("dataset", "string", "name of the data set, from its dataset_description.json"),
        Column("encoder", "string", "entry of the experiments files"),
        Column("version", "string", "version of the encoder"),
        Column("method", "string", "how the encoder was trained"),
        Column("backbone", "string", "network; n/a without one"),
        Column("pretrain_samples", "int64", "patches seen in pre-training", low=0),
        Column("held_out", "string", "the unseen brain"),
        Column("seed", "int64", "seed of the encoder"),
        Column("protocol", "string", "how labels were predicted from the features"),
        Column("labels_per_area", "int64", "labelled samples per area at the most; 0: all", low=0),
        Column("draw", "int64", "number of the draw of labelled samples", low=0),
        Column("split", "string", "seen_brains or unseen_brain", allowed=("seen_brains", "unseen_brain")),
        Column("n_brains", "int64", "brains scored", low=0),
        Column("n_sections", "int64", "sections scored", low=0),
        Column("n_patches", "int64", "patches scored", low=0),
        Column("n_areas", "int64", "areas scored", low=0),
        *(
            Column(name, "float64", name.replace("_", " "), nullable=True, low=score.lowest, high=1)
            for name, score in SCORES.items()
        ),
        *(
            Column(f"{name}_{end}", "float64", f"95 % interval over blocks of sections, {end} end", nullable=True)
            for name in SCORES
            for end in ("low", "high")
        ),
        Column(
            "n_border_patches", "int64", "patches scored within 3 mm of a border of the atlas", nullable=True, low=0
        ),
        *_with_interval("border_macro_f1", "macro F1 over patches within 3 mm of a border of the atlas", high=1),
        Column(
            "n_position_errors", "int64", "patches scored that the position control gets wrong", nullable=True, low=0
        ),
        *_with_interval("position_errors_corrected", "share of these patches that the method gets right", high=1),
        *_with_interval("retrieval_mm", "median distance in Colin-27 from the place sought to the patch found (mm)"),
        Column("retrieval_chance_mm", "float64", "the same for candidates taken at random (mm)", nullable=True, low=0),
        Column("retrieval_best_mm", "float64", "the same for the nearest candidates (mm)", nullable=True, low=0),
    ),
    "cytonet run",
)

_BORDER_DISTANCES = Table(
    "border_distances",
    1,
    (
        _PATCH_ID,
        _BRAIN,
        _SAMPLE,
        Column("border_mm", "float32", "distance in Colin-27 to the nearest border of the atlas (mm)", nullable=True),
    ),
    "cytonet run",
)

_COMPARISONS = Table(
    "comparisons",
    1,
    (
        Column("measure", "string", "column of the table of results that is compared"),
        Column("protocol", "string", "how labels were predicted, or what was retrieved"),
        Column("split", "string", "seen_brains or unseen_brain", allowed=("seen_brains", "unseen_brain")),
        Column("held_out", "string", "the unseen brain of both encoders"),
        Column("labels_per_area", "int64", "labelled samples per area at the most; 0: all", low=0),
        Column("draw", "int64", "number of the draw of labelled samples", low=0),
        Column("encoder_a", "string", "the first encoder"),
        Column("encoder_b", "string", "the second encoder"),
        Column("n_patches", "int64", "patches that both were measured on", low=0),
        Column("n_blocks", "int64", "blocks of sections that are resampled", low=0),
        Column("value_a", "float64", "measure of the first encoder on these patches", nullable=True),
        Column("value_b", "float64", "measure of the second encoder on these patches", nullable=True),
        Column("difference", "float64", "value_a - value_b", nullable=True),
        Column("difference_low", "float64", "95 % interval of the difference, low end", nullable=True),
        Column("difference_high", "float64", "95 % interval of the difference, high end", nullable=True),
        Column("p", "float64", "two-sided p value over resampled blocks", nullable=True, low=0, high=1),
        Column("p_holm", "float64", "p corrected for its family by Holm's method", nullable=True, low=0, high=1),
        Column(
            "n_family",
            "int64",
            "tests in its family: one measure, protocol, split, held-out brain, labels and draw",
            low=0,
        ),
        Column("left_out", "string", "why the two are not compared; empty if they are"),
    ),
    "cytonet run",
)

_RETRIEVED = Table(
    "retrieved",
    1,
    (
        Column("protocol", "string", "what was retrieved"),
        Column("split", "string", "seen_brains or unseen_brain", allowed=("seen_brains", "unseen_brain")),
        Column("patch_id", "uint64", "patch whose place is sought"),
        Column("found_id", "uint64", "patch with the nearest features among the candidates"),
        Column("distance_mm", "float32", "from the place sought to the patch found, in Colin-27 (mm)", low=0),
        Column("n_candidates", "int64", "patches to choose from", low=1),
    ),
    "cytonet run",
)

_UMAP = Table(
    "umap",
    1,
    (
        _PATCH_ID,
        Column("umap_1", "float32", "first dimension, its sign aligned to anterior-posterior"),
        Column("umap_2", "float32", "second dimension"),
    ),
    "cytonet run",
)

_MAP_GRID = Table(
    "map_grid",
    1,
    (
        _PATCH_ID,
        _BRAIN,
        _SAMPLE,
        _SECTION,
        Column("x_px", "int32", "grid point, right (full-resolution px, corner origin)"),
        Column("y_px", "int32", "grid point, down (full-resolution px, corner origin)"),
        *_reference_columns("grid point"),
        Column("hemisphere", "string", "as in the patch index", allowed=("L", "R")),
        Column("annotated_area", "int32", "index in desc-areas_dseg.tsv at the point; 0: none", low=0),
        Column("predicted_area", "int32", "most probable area", low=1),
        Column("probability", "float32", "probability of the predicted area", low=0, high=1.0001),
    ),
    "cytonet run",
)

_AREA_SCORES = Table(
    "area_scores",
    1,
    (
        Column("split", "string", "seen_brains or unseen_brain", allowed=("seen_brains", "unseen_brain")),
        Column("area", "int32", "annotation index, hemispheres merged", low=1),
        Column("name", "string", "name of the area"),
        Column("n_patches", "int64", "patches scored", low=0),
        Column("precision", "float64", "precision", nullable=True, low=0, high=1),
        Column("recall", "float64", "recall", nullable=True, low=0, high=1),
        Column("f1", "float64", "harmonic mean of precision and recall", nullable=True, low=0, high=1),
    ),
    "cytonet run",
)

_HISTORY = Table(
    "history",
    1,
    (
        Column("step", "int64", "optimiser steps done", low=0),
        Column("loss", "float64", "training loss, mean since the last row"),
        Column("learning_rate", "float64", "learning rate of the step", low=0),
        Column("gradient_norm", "float64", "norm before clipping", nullable=True, low=0),
        Column("samples_per_second", "float64", "samples per second since the last row", nullable=True, low=0),
        Column("data_wait_share", "float64", "share of the time spent waiting for data", nullable=True, low=0, high=1),
        Column("effective_positives", "float64", "median of (Σg)²/Σg²", nullable=True),
        Column("positive_mass", "float64", "median of Σg", nullable=True),
        Column("cross_brain_share", "float64", "share of positive weight between brains", nullable=True),
        Column("dropped_anchors", "float64", "share of anchors below min_mass", nullable=True),
        Column("effective_rank", "float64", "exp of the spectral entropy of validation features", nullable=True),
        Column("mean_cosine", "float64", "mean off-diagonal cosine of validation features", nullable=True),
        Column("alignment", "float64", "mean squared distance of positives on the sphere", nullable=True),
        Column("uniformity", "float64", "log mean Gaussian potential on the sphere", nullable=True),
        Column("knn_accuracy", "float64", "k-NN accuracy on validation sections of training brains", nullable=True),
        Column("same_brain_excess", "float64", "same-brain share among neighbours over chance", nullable=True),
        Column("accuracy", "float64", "training accuracy (scratch)", nullable=True),
    ),
    "cytonet run",
)

TABLES = {
    t.name: t
    for t in (
        _SECTION_SCANS,
        _PATCH_INDEX,
        _TRAINING_SECTIONS,
        _TRAINING_PATCHES,
        _HISTORY,
        _PREDICTIONS,
        _DRAWN_PREDICTIONS,
        _AREA_SCORES,
        _METRICS,
        _BORDER_DISTANCES,
        _COMPARISONS,
        _RETRIEVED,
        _UMAP,
        _MAP_GRID,
    )
}
ROLES = _ROLE
