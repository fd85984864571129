"""The registry of tables: every column that the store holds, its type, unit and meaning.

One pandera schema per table generates the checks, the Parquet schema and the column metadata that Dagster shows. A
column is added here first; its table's `version` goes up when a reader of the previous schema misreads the new one.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.scores import SCORES

if TYPE_CHECKING:
    # Imported where they are used: Dagster's definitions read this registry and load without pandas.
    import pandas as pd
    import pandera.pandas as pa
    import pyarrow

_PANDAS_TYPES = {
    "string": "str",
    "bool": "bool",
    "int32": "int32",
    "int64": "int64",
    "uint64": "uint64",
    "float16": "float16",
    "float32": "float32",
    "float64": "float64",
}


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, what it means (with its unit), and what is allowed in it."""

    name: str
    type: str
    meaning: str
    nullable: bool = False
    unique: bool = False
    allowed: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def checks(self) -> "list[pa.Check]":
        """Return the pandera checks on the values."""
        import pandera.pandas as pa

        checks = []
        if self.allowed:
            checks.append(pa.Check.isin(list(self.allowed)))
        if self.low is not None:
            checks.append(pa.Check.ge(self.low))
        if self.high is not None:
            checks.append(pa.Check.le(self.high))
        return checks


@dataclass(frozen=True)
class Table:
    """A table's columns, and the version of its schema."""

    name: str
    version: int
    columns: tuple[Column, ...]
    rebuilt_by: str

    def pandera(self) -> "pa.DataFrameSchema":
        """Return a schema that coerces the types, refuses other columns and puts them in order."""
        return _pandera(self.name)

    def arrow(self) -> "pyarrow.Schema":
        """Return the Arrow schema; each field's metadata carries its meaning."""
        import pyarrow

        fields = [
            pyarrow.field(
                c.name, pyarrow.type_for_alias(c.type), nullable=c.nullable, metadata={"description": c.meaning}
            )
            for c in self.columns
        ]
        return pyarrow.schema(fields)

    def validate(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Return `frame` with the contract's types and order of columns.

        Raises
        ------
        StoreError
            A column is missing, unknown, of another type or out of its range.
        """
        import pandera.pandas as pa

        try:
            return self.pandera().validate(frame, lazy=True)
        except pa.errors.SchemaErrors as error:
            cases = error.failure_cases.head(5)[["column", "check", "failure_case"]].to_dict("records")
            raise StoreError(f"table {self.name!r} does not keep its contract: {cases}") from error

    def empty(self) -> "pd.DataFrame":
        """Return the table without rows."""
        import pandas as pd

        return pd.DataFrame({c.name: pd.Series(dtype=_PANDAS_TYPES[c.type]) for c in self.columns})


@cache
def _pandera(name: str) -> "pa.DataFrameSchema":
    import pandera.pandas as pa

    table = TABLES[name]
    columns = {
        c.name: pa.Column(
            _PANDAS_TYPES[c.type], c.checks(), nullable=c.nullable, unique=c.unique, description=c.meaning
        )
        for c in table.columns
    }
    return pa.DataFrameSchema(columns, strict=True, coerce=True, ordered=False, name=name)


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
        _AREA_SCORES,
        _METRICS,
        _UMAP,
        _MAP_GRID,
    )
}
ROLES = _ROLE
