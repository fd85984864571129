"""The experiments file: a data set, encoders, and how they are evaluated.

Each key says in its own field what it affects (`keys.py`); that decides whether a change of it trains an encoder again.
"""

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

from cytonet_pipeline.settings.keys import COMPUTATION, NOTHING, RESULT, affects, without_later_defaults
from cytonet_pipeline.settings.names import BrainName, RegisteredName, require_one_spelling
from cytonet_pipeline.settings.strict import Strict

Method = Literal["cytonet", "supcon", "scratch", "pretrained", "random", "intensity", "position"]
# Raised by hand when the code of `learning` would make other weights from the same training set and configuration.
TRAINING_CODE_VERSION = "1"
WITHOUT_WEIGHTS: frozenset[str] = frozenset({"intensity", "position"})
TRAINED: frozenset[str] = frozenset({"cytonet", "supcon", "scratch"})
CONTROLS: frozenset[str] = frozenset({"random", "intensity", "position"})
_SEE_LABELS: frozenset[str] = frozenset({"supcon", "scratch"})

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


class LossBlock(Strict):
    """Options of the distance-weighted contrastive loss; defaults as in `learning.losses.contrastive`."""

    temperature: float = Field(0.1, gt=0, json_schema_extra=RESULT)
    transfer: RegisteredName = Field("gaussian", json_schema_extra=RESULT)
    length_mm: float = Field(5.0, gt=0, json_schema_extra=RESULT)
    anchor: Literal["k", "i"] = Field("k", json_schema_extra=RESULT)
    self_term: bool = Field(False, json_schema_extra=RESULT)
    min_mass: float = Field(0.1, ge=0, json_schema_extra=RESULT)
    distance: RegisteredName = Field("euclidean", json_schema_extra=RESULT)
    same_brain_weight: float = Field(1.0, ge=0, json_schema_extra=RESULT)
    drop_same_brain_mm: float = Field(0.0, ge=0, json_schema_extra=RESULT)


class AugmentationBlock(Strict):
    """Strength of each augmentation; 0 or false switches it off. Each sample gets its own draw."""

    rotation: bool = Field(True, json_schema_extra=RESULT)
    flip: bool = Field(True, json_schema_extra=RESULT)
    crop_jitter_px: float = Field(
        2.0, ge=0, description="largest shift of the crop (working px)", json_schema_extra=RESULT
    )
    brightness: float = Field(
        0.2, ge=0, description="largest shift of the mean, of the full range", json_schema_extra=RESULT
    )
    contrast: float = Field(0.3, ge=0, description="largest relative change of the contrast", json_schema_extra=RESULT)
    blur_px: float = Field(
        0.8, ge=0, description="largest sigma of a Gaussian blur (working px)", json_schema_extra=RESULT
    )
    noise: float = Field(
        0.03, ge=0, description="largest sigma of added noise, of the full range", json_schema_extra=RESULT
    )
    stain: float = Field(
        0.3, ge=0, description="largest log2 change of the staining curve's exponent", json_schema_extra=RESULT
    )


class OptimizerBlock(Strict):
    """Optimiser and schedule: linear warm-up, then cosine to zero."""

    name: Literal["adamw", "lars"] = Field("adamw", json_schema_extra=RESULT)
    learning_rate: float = Field(1e-3, gt=0, json_schema_extra=RESULT)
    weight_decay: float = Field(0.05, ge=0, json_schema_extra=RESULT)
    warmup_steps: int = Field(50, ge=0, json_schema_extra=RESULT)
    clip_norm: float | None = Field(None, gt=0, json_schema_extra=RESULT)


class EncoderBlock(Strict):
    """One encoder: a partition of the training assets, under the name that is its key."""

    method: Method = Field(json_schema_extra=RESULT)
    backbone: RegisteredName = Field("small", json_schema_extra=RESULT)
    working_pixel_um: float = Field(gt=0, description="pixel size that the network sees (µm)", json_schema_extra=RESULT)
    held_out: BrainName | None = Field(
        None,
        description="the unseen brain; default: that of the dataset block",
        json_schema_extra=affects("result", digested="apart"),
    )
    samples: int | None = Field(
        None, ge=1, description="patches of the training set, by `order`; default: all", json_schema_extra=RESULT
    )
    brain_floor: float = Field(
        0.5,
        ge=0,
        le=1,
        description="least part of its equal share that a brain contributes",
        json_schema_extra=RESULT,
    )
    init_from: str | None = Field(
        None,
        description="weights to continue from: an encoder, encoder@version, or a path to encoder.safetensors",
        json_schema_extra=affects("result", digested="apart"),
    )
    weights: str | None = Field(
        None,
        description="local file of the weights of `method: pretrained`: safetensors or a state_dict",
        json_schema_extra=affects("result", added_in="0.3.0", digested="apart"),
    )
    steps: int = Field(600, ge=0, json_schema_extra=RESULT)
    batch_size: int = Field(512, ge=2, json_schema_extra=RESULT)
    projection_dim: int = Field(128, ge=2, json_schema_extra=RESULT)
    seed: int = Field(0, json_schema_extra=RESULT)
    processes: int = Field(
        1,
        ge=1,
        description="ranks of the local launcher; a cluster takes nodes × GPUs",
        json_schema_extra=affects("computation", digested="default"),
    )
    precision: Literal["auto", "float32", "bf16"] = Field("auto", json_schema_extra=RESULT)
    activation_checkpointing: bool = Field(
        False,
        description="recompute activations in the backward pass: less memory",
        json_schema_extra=affects("result", added_in="0.2.0"),
    )
    chunk_size: int | None = Field(
        None,
        ge=2,
        description="samples per rank that go through the network at once",
        json_schema_extra=affects("result", added_in="0.2.0"),
    )
    compile: bool = Field(
        False, description="torch.compile; needs a C compiler", json_schema_extra=affects("result", added_in="0.2.0")
    )
    loading: Literal["packed", "scans"] = Field("packed", json_schema_extra=affects("result", added_in="0.2.0"))
    shuffle_buffer: int = Field(
        8192,
        ge=2,
        description="samples, over all ranks, mixed at a time; `loading: scans`",
        json_schema_extra=affects("result", added_in="0.2.0", read_if=("loading", "scans")),
    )
    workers: int = Field(
        2,
        ge=0,
        description="loader threads per rank; 0: the training loop reads its patches itself",
        json_schema_extra=COMPUTATION,
    )
    checkpoint_every: int = Field(100, ge=1, json_schema_extra=affects("computation", digested="default"))
    watch_every: int = Field(
        100, ge=1, description="steps between looks at the validation sections", json_schema_extra=RESULT
    )
    loss: LossBlock = Field(LossBlock(), json_schema_extra=RESULT)
    augmentation: AugmentationBlock = Field(AugmentationBlock(), json_schema_extra=RESULT)
    optimizer: OptimizerBlock = Field(OptimizerBlock(), json_schema_extra=RESULT)
    retired: bool = Field(False, json_schema_extra=NOTHING)

    @model_validator(mode="after")
    def _fits_together(self) -> "EncoderBlock":
        if self.init_from is not None and self.method not in TRAINED:
            raise ValueError(f"init_from: a {self.method} encoder is not trained, so it continues from nothing")
        if (self.method == "pretrained") != (self.weights is not None):
            raise ValueError("weights: a file for `method: pretrained`, and for no other method")
        if (self.method == "pretrained") != ("/" in self.backbone):
            raise ValueError(
                f"backbone {self.backbone}: `method: pretrained` takes torchvision/NAME or timm/NAME, the others do not"
            )
        if self.compile and self.activation_checkpointing:
            raise ValueError("compile and activation_checkpointing exclude each other")
        if self.loading == "scans" and self.shuffle_buffer < self.batch_size:
            raise ValueError(f"shuffle_buffer {self.shuffle_buffer} holds less than a batch of {self.batch_size}")
        return self

    @property
    def sees_labels(self) -> bool:
        """Whether training reads annotations: a change of them then trains it again."""
        return self.method in _SEE_LABELS

    @property
    def buffer_steps(self) -> int:
        """Number of steps whose samples are mixed with each other, with `loading: scans`."""
        return max(1, self.shuffle_buffer // self.batch_size)

    def work_px(self, patch_um: float) -> int:
        """Return the edge of the network's input in pixels."""
        return round(patch_um / self.working_pixel_um)


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
    umap_and_maps_of: Literal["all", "trained"] = Field(
        "all",
        description="encoders for which `cytonet run` makes UMAP plots and area maps; controls stay in the table",
        json_schema_extra=NOTHING,
    )
    seed: int = Field(0, json_schema_extra=RESULT)


class IngestBlock(Strict):
    """The `ingest:` block: when the ingestion of a brain waits for a person. No part of any version or stamp."""

    shrink_tolerance: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of a brain's usable sections that may be lost before its ingestion waits for confirmation",
        json_schema_extra=NOTHING,
    )


class Experiments(Strict):
    """An experiments file: a data set, encoders, and how they are evaluated."""

    dataset: DatasetBlock
    ingest: IngestBlock = IngestBlock()
    encoders: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], EncoderBlock]
    evaluation: EvaluationBlock = EvaluationBlock()

    @model_validator(mode="after")
    def _networks_see_enough_pixels(self) -> "Experiments":
        for name, encoder in self.encoders.items():
            if encoder.work_px(self.dataset.patch_um) < 8:
                raise ValueError(
                    f"encoder {name}: working_pixel_um {encoder.working_pixel_um} leaves fewer than 8 px "
                    f"of a patch of {self.dataset.patch_um} µm"
                )
        return self
