"""The experiments file: a data set, encoders, and how they are evaluated.

Each key says in its own field what it affects (`keys.py`).
"""

import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.names import describe_known
from cytonet_pipeline.settings.encoder_block import EncoderBlock
from cytonet_pipeline.settings.keys import NOTHING, RESULT, affects, without_later_defaults
from cytonet_pipeline.settings.names import BrainName, require_one_spelling
from cytonet_pipeline.settings.strict import Strict
from cytonet_pipeline.settings.variants import expand_entries

T = TypeVar("T")


def _require_different(values: tuple[T, ...]) -> tuple[T, ...]:
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"each value once; {', '.join(repeated)} is given more than once")
    return values


def _require_bounds(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1]:
        raise ValueError(f"[{bounds[0]:g}, {bounds[1]:g}] are not two bounds, the lower one first")
    return bounds


def _require_range(window: tuple[int, int]) -> tuple[int, int]:
    low, high = window
    if not 0 <= low < high:
        raise ValueError(f"[{low}, {high}] is not a range of grey values, the lower one first")
    return window


# Values that are each tried, drawn or trained for: at least one, none twice.
Counts = Annotated[tuple[PositiveInt, ...], Field(min_length=1), AfterValidator(_require_different)]
Levels = Annotated[tuple[PositiveFloat, ...], Field(min_length=1), AfterValidator(_require_different)]
Bounds = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_require_bounds)]
Window = Annotated[tuple[int, int], AfterValidator(_require_range)]


class DatasetBlock(Strict):
    """The `dataset:` block: what a patch is and which sections may be seen. One per store."""

    patch_um: float = Field(4096.0, gt=0, description="edge of a patch in the scan (µm)", json_schema_extra=RESULT)
    density_per_mm3: float = Field(gt=0, description="patches per mm³ of cortex", json_schema_extra=RESULT)
    sampling: Literal["uniform", "midline"] = Field("uniform", json_schema_extra=RESULT)
    held_out: BrainName = Field(description="the unseen brain", json_schema_extra=affects("result", digested="apart"))
    gap_mm: float = Field(
        1.0, ge=0, description="brain mm kept free between training and test sections", json_schema_extra=RESULT
    )
    test_share: float = Field(
        0.2, gt=0, lt=1, description="share of a seen brain's length that is test", json_schema_extra=RESULT
    )
    test_blocks: int = Field(3, ge=1, description="contiguous test blocks per brain", json_schema_extra=RESULT)
    validation_share: float = Field(
        0.1, ge=0, lt=1, description="share of the remaining length for validation", json_schema_extra=RESULT
    )
    stain: str = Field("merker", json_schema_extra=RESULT)
    window: Window | dict[BrainName, Window] | None = Field(
        None,
        description="grey values that become 0 and 255, for all brains, or by brain; default: the full bit range",
        json_schema_extra=affects("result", digested="apart"),
    )
    invert: bool | dict[BrainName, bool] | None = Field(
        None,
        description="true: scans are light on dark, for all brains, or by brain; default: such scans are refused",
        json_schema_extra=affects("result", added_in="0.3.0", digested="apart"),
    )
    mask_value: PositiveInt | dict[BrainName, PositiveInt] | None = Field(
        None,
        description="the number that is cortex in masks, for all brains, or by brain; default: all but 0",
        json_schema_extra=affects("result", added_in="0.3.0", digested="apart"),
    )
    plausible_pixel_um: Bounds = Field(
        (0.1, 200.0),
        description="smallest and largest edge of a scan's pixels that is believed (µm)",
        json_schema_extra=affects("nothing", added_in="0.3.0"),
    )
    quiet_minutes: float = Field(
        60.0,
        ge=0,
        description="without participants.tsv `ingest`: minutes without a change",
        json_schema_extra=NOTHING,
    )
    allowed_roots: tuple[Path, ...] = Field(
        (), description="folders below which absolute scan paths may lie", json_schema_extra=NOTHING
    )
    seed: int = Field(0, json_schema_extra=RESULT)

    @model_serializer(mode="wrap")
    def _as_recorded(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_later_defaults(self, serialize(self))

    @field_validator("window", "invert", "mask_value", mode="before")
    @classmethod
    def _one_value_per_brain(cls, value: Any) -> Any:
        return require_one_spelling(value)

    def window_of(self, brain: str) -> Window | None:
        """Return the intensity window of a brain; None: the full bit range."""
        return _of_brain(self.window, brain)

    def invert_of(self, brain: str) -> bool | None:
        """Return whether a brain's scans are light on dark; None if the file does not state it."""
        return _of_brain(self.invert, brain)

    def mask_value_of(self, brain: str) -> int | None:
        """Return the number that is cortex in a brain's masks; None: every number but 0."""
        return _of_brain(self.mask_value, brain)


def _of_brain(value: T | dict[str, T] | None, brain: str) -> T | None:
    return value.get(brain) if isinstance(value, dict) else value


class EvaluationBlock(Strict):
    """The `evaluation:` block: protocols and analyses, the same for all encoders of a file."""

    epochs: Counts = Field((30, 500), description="linear probes E30, E500 …", json_schema_extra=RESULT)
    samples_per_area: int = Field(1200, ge=1, json_schema_extra=RESULT)
    labels_per_area: Counts = Field(
        (10, 100), description="label efficiency, beside all samples", json_schema_extra=RESULT
    )
    draws: int = Field(5, ge=1, json_schema_extra=RESULT)
    learning_rates: Levels = Field((0.01, 0.03, 0.1, 0.3, 1.0), json_schema_extra=RESULT)
    batch_size: int = Field(1024, ge=1, json_schema_extra=RESULT)
    logistic_c: Levels = Field((0.01, 0.1, 1.0, 10.0), json_schema_extra=RESULT)
    knn_k: int = Field(20, ge=1, json_schema_extra=RESULT)
    knn_temperature: float = Field(0.07, gt=0, json_schema_extra=RESULT)
    bootstrap: int = Field(
        1000, ge=0, description="resamplings of blocks for the 95 % intervals", json_schema_extra=RESULT
    )
    umap_every: int = Field(50, ge=1, description="every nth patch goes into the UMAP", json_schema_extra=RESULT)
    umap_neighbors: int = Field(15, ge=2, json_schema_extra=RESULT)
    umap_min_dist: float = Field(0.1, ge=0, json_schema_extra=RESULT)
    map_spacing_mm: float = Field(
        1.0, gt=0, description="grid of the area maps in the section plane", json_schema_extra=RESULT
    )
    map_brains: tuple[BrainName, ...] = Field(
        (), description="brains to map; default: the unseen one", json_schema_extra=RESULT
    )
    umap_and_maps_of: Literal["all", "trained"] | tuple[str, ...] = Field(
        "all",
        description="encoders for which `cytonet run` makes UMAP plots and area maps: all, trained, or their names",
        json_schema_extra=NOTHING,
    )
    seed: int = Field(0, json_schema_extra=RESULT)


class IngestBlock(Strict):
    """The `ingest:` block: how brains come in, and when that waits for a person. No part of any version or stamp."""

    max_new_brains: PositiveInt = Field(
        2,
        description="brains that the sensor new_brains starts per tick; none while as many wait in Dagster's queue",
        json_schema_extra=NOTHING,
    )

    shrink_tolerance: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of a brain's usable sections that may be lost before its ingestion waits for confirmation",
        json_schema_extra=NOTHING,
    )


class RetrainBlock(Strict):
    """The `retrain:` block: what the schedule may spend, and what goes into use. No part of any version or stamp."""

    # Dagster has the rules of cron, and settings do not know Dagster: `defs/training/cron.py` checks it.
    cron: str = Field(
        "0 3 * * 1",
        description="when the schedule retrain ticks, as a cron expression in the time zone of CYTONET_TIMEZONE; "
        "default: Mondays at 03:00",
        json_schema_extra=NOTHING,
    )
    at_most: PositiveInt | None = Field(
        None,
        description="encoders that the schedule retrain requests per tick; the others wait; default: all",
        json_schema_extra=NOTHING,
    )
    smallest_change: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of an encoder's training patches that must come, go or change before the schedule trains it "
        "again; changed settings always count",
        json_schema_extra=NOTHING,
    )
    gate: float | None = Field(
        None,
        ge=0,
        le=1,
        description="by how much the k-NN accuracy on validation sections of a new version may be below that of the "
        "version in use for it to go into use; default: whatever it is",
        json_schema_extra=NOTHING,
    )


class Experiments(Strict):
    """An experiments file: a data set, encoders, and how they are evaluated."""

    dataset: DatasetBlock
    ingest: IngestBlock = IngestBlock()
    retrain: RetrainBlock = RetrainBlock()
    encoders: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], EncoderBlock]
    evaluation: EvaluationBlock = EvaluationBlock()
    parts: dict[str, tuple[str, ...]] = Field(
        {},
        description="encoders by part, as names or patterns such as scratch_*; the first part is the most important",
        json_schema_extra=NOTHING,
    )

    @field_validator("encoders", mode="before")
    @classmethod
    def _one_entry_per_encoder(cls, entries: Any) -> Any:
        return expand_entries(entries) if isinstance(entries, dict) else entries

    @model_validator(mode="after")
    def _names_are_of_encoders(self) -> "Experiments":
        plotted = self.evaluation.umap_and_maps_of
        lists = {f"parts.{part}": names for part, names in self.parts.items()}
        if isinstance(plotted, tuple):
            lists["evaluation.umap_and_maps_of"] = plotted
        for key, names in lists.items():
            for name in names:
                if not fnmatch.filter(self.encoders, name):
                    raise ValueError(f"{key}: no encoder is called {name!r}; {describe_known(name, self.encoders)}")
        return self

    def encoders_of(self, part: str) -> list[str]:
        """Return the encoders of a part that are not retired, in the order in which its names and patterns list them.

        Raises
        ------
        ConfigurationError
            The file has no such part.
        """
        if part not in self.parts:
            raise ConfigurationError(
                f"no part {part!r}; {describe_known(part, self.parts)}.",
                to_fix="docs/experiments.md, `parts:`, or leave --part out for all encoders",
            )
        named = [name for pattern in self.parts[part] for name in fnmatch.filter(self.encoders, pattern)]
        return [name for name in dict.fromkeys(named) if not self.encoders[name].retired]

    def by_importance(self) -> list[str]:
        """Return all encoders that are not retired: those of the parts first, in their order."""
        in_parts = [name for part in self.parts for name in self.encoders_of(part)]
        rest = [name for name, block in self.encoders.items() if not block.retired]
        return list(dict.fromkeys([*in_parts, *rest]))

    @model_validator(mode="after")
    def _probes_get_the_same_labels(self) -> "Experiments":
        """Refuse an encoder of a few labels that nothing in the table can be compared with."""
        counts, draws = self.evaluation.labels_per_area, self.evaluation.draws
        for name, encoder in self.encoders.items():
            if encoder.labels_per_area is None:
                continue
            if encoder.labels_per_area not in counts:
                raise ValueError(
                    f"encoder {name}: labels_per_area {encoder.labels_per_area} is not among those of the block "
                    f"`evaluation` ({', '.join(map(str, counts))}): no probe would get the same labels"
                )
            if encoder.labels_draw >= draws:
                raise ValueError(
                    f"encoder {name}: labels_draw {encoder.labels_draw}, but `evaluation` has {draws} draws, from 0 to "
                    f"{draws - 1}: no probe would get the same labels"
                )
        return self

    @model_validator(mode="after")
    def _networks_see_enough_pixels(self) -> "Experiments":
        for name, encoder in self.encoders.items():
            if encoder.work_px(self.dataset.patch_um) < 8:
                raise ValueError(
                    f"encoder {name}: working_pixel_um {encoder.working_pixel_um} leaves fewer than 8 px "
                    f"of a patch of {self.dataset.patch_um} µm"
                )
        return self
