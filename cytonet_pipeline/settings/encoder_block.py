"""The entries of `encoders:`: what an encoder sees, how it is trained, and on what budget.

Each key says in its own field what it affects (`keys.py`); that decides whether a change of it trains an encoder again.
"""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cytonet_pipeline.settings.keys import COMPUTATION, NOTHING, RESULT, affects
from cytonet_pipeline.settings.names import BrainName, RegisteredName
from cytonet_pipeline.settings.strict import Strict

Method = Literal["cytonet", "supcon", "scratch", "pretrained", "random", "intensity", "position"]
# Raised by hand when the code of `learning` would make other weights from the same training set and configuration.
TRAINING_CODE_VERSION = "1"
WITHOUT_WEIGHTS: frozenset[str] = frozenset({"intensity", "position"})
TRAINED: frozenset[str] = frozenset({"cytonet", "supcon", "scratch"})
CONTROLS: frozenset[str] = frozenset({"random", "intensity", "position"})
SUPERVISED: frozenset[str] = frozenset({"supcon", "scratch"})


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
    labels_per_area: int | None = Field(
        None,
        ge=1,
        description="of a method that reads labels: annotated patches per area that it is trained on; default: all",
        json_schema_extra=affects("result", added_in="0.3.0"),
    )
    labels_draw: int = Field(
        0,
        ge=0,
        description="number of the draw of these patches, as in the probes of the other encoders",
        json_schema_extra=affects("result", added_in="0.3.0"),
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

    @field_validator("labels_per_area", "samples", mode="before")
    @classmethod
    def _all_is_the_default(cls, value: Any) -> Any:
        return None if value == "all" else value

    @model_validator(mode="after")
    def _fits_together(self) -> "EncoderBlock":
        self._require_sensible_labels()
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

    def _require_sensible_labels(self) -> None:
        if self.labels_per_area is None:
            if self.labels_draw:
                raise ValueError("labels_draw: with all labels there is nothing to draw; give labels_per_area too")
            return
        if not self.sees_labels:
            raise ValueError(
                f"labels_per_area: a {self.method} encoder is trained without labels; its probe gets them by "
                "`labels_per_area` of the block `evaluation`"
            )
        if self.samples is not None:
            raise ValueError("labels_per_area and samples exclude each other: both say which patches are learned from")

    @property
    def sees_labels(self) -> bool:
        """Whether training reads annotations: a change of them then trains it again."""
        return self.method in SUPERVISED

    @property
    def buffer_steps(self) -> int:
        """Number of steps whose samples are mixed with each other, with `loading: scans`."""
        return max(1, self.shuffle_buffer // self.batch_size)

    def work_px(self, patch_um: float) -> int:
        """Return the edge of the network's input in pixels."""
        return round(patch_um / self.working_pixel_um)
