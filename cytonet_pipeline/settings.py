"""What to work on: the environment and the experiments file, as one typed object.

The environment says where things lie, the experiments file what to do with them. Both are validated strictly: a key
that nobody reads is a misspelt key. Nothing here is read at import.
"""

import os
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from cytonet_pipeline.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parent.parent

Method = Literal["cytonet", "supcon", "scratch", "random", "intensity", "position"]
# Raised by hand when the code of `learning` would make other weights from the same training set and configuration.
TRAINING_CODE_VERSION = "1"
WITHOUT_WEIGHTS: frozenset[str] = frozenset({"intensity", "position"})
TRAINED: frozenset[str] = frozenset({"cytonet", "supcon", "scratch"})


Model = TypeVar("Model", bound=BaseModel)

_accepted_names: dict[str, Collection[str]] = {}


def accept_names(key: str, names: Collection[str]) -> None:
    """Let a key of an experiments entry take the names of a registry, as it stands when a file is read.

    Backbones and losses need torch, which is not imported here: `learning` hands in their registries when it is
    imported, as every program does that acts on an experiments file. Until then any name passes, and is refused where
    the thing itself is made.
    """
    _accepted_names[key] = names


def _require_accepted(name: str, info: ValidationInfo) -> str:
    accepted = _accepted_names.get(str(info.field_name))
    if accepted is not None and name not in accepted:
        raise ValueError(f"no such {info.field_name}: {name!r}; there are {', '.join(accepted)}")
    return name


RegisteredName = Annotated[str, AfterValidator(_require_accepted)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetBlock(_Strict):
    """The `dataset:` block: what a patch is and which sections may be seen. One per store."""

    patch_um: float = Field(4096.0, gt=0, description="edge of a patch in the scan (µm)")
    density_per_mm3: float = Field(gt=0, description="patches a mm³ of cortex")
    sampling: Literal["uniform", "midline"] = "uniform"
    held_out: str = Field(description="the unseen brain")
    gap_mm: float = Field(1.0, ge=0, description="brain mm kept free between training and test sections")
    test_share: float = Field(0.2, gt=0, lt=1, description="share of a seen brain's length that is test")
    test_blocks: int = Field(3, ge=1, description="contiguous test blocks a brain")
    validation_share: float = Field(0.1, ge=0, lt=1, description="share of the remaining length for validation")
    stain: str = "merker"
    window: tuple[int, int] | dict[str, tuple[int, int]] | None = Field(
        None, description="grey values that become 0 and 255, for all brains or a brain; default: the full bit range"
    )
    quiet_minutes: float = Field(60.0, ge=0, description="without participants.tsv `ingest`: no change for so long")
    allowed_roots: tuple[Path, ...] = Field((), description="folders below which absolute scan paths may lie")
    seed: int = 0

    def window_of(self, brain: str) -> tuple[int, int] | None:
        """The intensity window of a brain; None: the full bit range."""
        return self.window.get(brain) if isinstance(self.window, dict) else self.window


class LossBlock(_Strict):
    """Options of the distance-weighted contrastive loss; defaults as in `learning.losses.contrastive`."""

    temperature: float = Field(0.1, gt=0)
    transfer: RegisteredName = "gaussian"
    length_mm: float = Field(5.0, gt=0)
    anchor: Literal["k", "i"] = "k"
    self_term: bool = False
    min_mass: float = Field(0.1, ge=0)
    distance: RegisteredName = "euclidean"
    same_brain_weight: float = Field(1.0, ge=0)
    drop_same_brain_mm: float = Field(0.0, ge=0)


class AugmentationBlock(_Strict):
    """Strength of each augmentation; 0 or false switches it off. Each sample gets its own draw."""

    rotation: bool = True
    flip: bool = True
    crop_jitter_px: float = Field(2.0, ge=0, description="largest shift of the crop (working px)")
    brightness: float = Field(0.2, ge=0, description="largest shift of the mean, of the full range")
    contrast: float = Field(0.3, ge=0, description="largest relative change of the contrast")
    blur_px: float = Field(0.8, ge=0, description="largest sigma of a Gaussian blur (working px)")
    noise: float = Field(0.03, ge=0, description="largest sigma of added noise, of the full range")
    stain: float = Field(0.3, ge=0, description="largest log2 change of the staining curve's exponent")


class OptimizerBlock(_Strict):
    """Optimiser and schedule: linear warm-up, then cosine to zero."""

    name: Literal["adamw", "lars"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_steps: int = Field(50, ge=0)
    clip_norm: float | None = Field(None, gt=0)


class EncoderBlock(_Strict):
    """One encoder: a partition of the training assets, under the name that is its key."""

    method: Method
    backbone: RegisteredName = "small"
    working_pixel_um: float = Field(gt=0, description="pixel size that the network sees (µm)")
    held_out: str | None = Field(None, description="the unseen brain; default: that of the dataset block")
    samples: int | None = Field(None, ge=1, description="patches of the training set, by `order`; default: all")
    brain_floor: float = Field(0.5, ge=0, le=1, description="least share of a brain, of its equal share")
    init_from: str | None = Field(
        None, description="weights to continue from: an encoder, encoder@version, or a path to encoder.safetensors"
    )
    steps: int = Field(600, ge=0)
    batch_size: int = Field(512, ge=2)
    projection_dim: int = Field(128, ge=2)
    seed: int = 0
    processes: int = Field(1, ge=1, description="ranks of the local launcher; a cluster takes nodes × GPUs")
    precision: Literal["auto", "float32", "bf16"] = "auto"
    activation_checkpointing: bool = Field(False, description="recompute activations on the way back: less memory")
    chunk_size: int | None = Field(None, ge=2, description="samples a rank that go through the network at once")
    compile: bool = Field(False, description="torch.compile; needs a C compiler")
    loading: Literal["packed", "scans"] = "packed"
    shuffle_buffer: int = Field(8192, ge=2, description="samples, over all ranks, mixed at a time; `loading: scans`")
    workers: int = Field(2, ge=0, description="loader threads a rank; 0: the training reads its patches itself")
    checkpoint_every: int = Field(100, ge=1)
    watch_every: int = Field(100, ge=1, description="steps between looks at the validation sections")
    loss: LossBlock = LossBlock()
    augmentation: AugmentationBlock = AugmentationBlock()
    optimizer: OptimizerBlock = OptimizerBlock()
    retired: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> "EncoderBlock":
        if self.init_from is not None and self.method not in TRAINED:
            raise ValueError(f"init_from: a {self.method} encoder is not trained, so it continues from nothing")
        if self.compile and self.activation_checkpointing:
            raise ValueError("compile and activation_checkpointing exclude each other")
        if self.loading == "scans" and self.shuffle_buffer < self.batch_size:
            raise ValueError(f"shuffle_buffer {self.shuffle_buffer} holds less than a batch of {self.batch_size}")
        return self

    @property
    def buffer_steps(self) -> int:
        """Steps whose samples are mixed with each other, with `loading: scans`."""
        return max(1, self.shuffle_buffer // self.batch_size)

    def work_px(self, patch_um: float) -> int:
        """Edge of the network's input in pixels."""
        return round(patch_um / self.working_pixel_um)


class EvaluationBlock(_Strict):
    """The `evaluation:` block: protocols and analyses, the same for all encoders of a file."""

    epochs: tuple[int, ...] = Field((30, 500), description="linear probes E30, E500 …")
    samples_per_area: int = Field(1200, ge=1)
    labels_per_area: tuple[int, ...] = Field((10, 100), description="label efficiency, beside all samples")
    draws: int = Field(5, ge=1)
    learning_rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    batch_size: int = Field(1024, ge=1)
    logistic_c: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
    knn_k: int = Field(20, ge=1)
    knn_temperature: float = Field(0.07, gt=0)
    bootstrap: int = Field(1000, ge=0, description="resamplings of blocks for the 95 % intervals")
    umap_every: int = Field(50, ge=1, description="every so-many-th patch goes into the UMAP")
    umap_neighbors: int = Field(15, ge=2)
    umap_min_dist: float = Field(0.1, ge=0)
    map_spacing_mm: float = Field(1.0, gt=0, description="grid of the area maps in the section plane")
    map_brains: tuple[str, ...] = Field((), description="brains to map; default: the unseen one")
    seed: int = 0


class Experiments(_Strict):
    """An experiments file: a data set, encoders, and how they are evaluated."""

    dataset: DatasetBlock
    encoders: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], EncoderBlock]
    evaluation: EvaluationBlock = EvaluationBlock()

    @model_validator(mode="after")
    def _work_pixel_divides_the_patch(self) -> "Experiments":
        for name, encoder in self.encoders.items():
            if encoder.work_px(self.dataset.patch_um) < 8:
                raise ValueError(
                    f"encoder {name}: working_pixel_um {encoder.working_pixel_um} leaves fewer than 8 px "
                    f"of a patch of {self.dataset.patch_um} µm"
                )
        return self


def read_experiments(path: Path) -> Experiments:
    """Read and check an experiments file.

    Raises
    ------
    ConfigurationError
        It is missing, not YAML, or has a misspelt key or an impossible value; the message names each.
    """
    return read_strictly(
        path,
        Experiments,
        if_unreadable="set CYTONET_EXPERIMENTS to an experiments file",
        if_faulty="docs/experiments.md lists every key; compare with experiments/demo.yaml",
    )


def read_strictly(
    path: Path, model: type[Model], *, if_unreadable: str, if_faulty: str, loader: type = yaml.SafeLoader
) -> Model:
    """Read a YAML file into a model; an empty file is a model of defaults.

    Parameters
    ----------
    if_unreadable, if_faulty : str
        Remedies.
    loader : type
        How YAML is read.

    Raises
    ------
    ConfigurationError
        It is missing, not YAML, or has a misspelt key or an impossible value; the message names each.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), loader)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}).", to_fix=if_unreadable) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML ({error}).") from error
    try:
        return model.model_validate({} if content is None else content)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {_said(e)}" for e in error.errors()]
        raise ConfigurationError(
            f"{path}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}: {'; '.join(faults)}.",
            to_fix=if_faulty,
        ) from error


def read_all_experiments(folder: Path) -> dict[str, tuple[Path, EncoderBlock]]:
    """All encoders of all experiments files in a folder, by name.

    Raises
    ------
    ConfigurationError
        A file is faulty, or a name is used twice.
    """
    encoders: dict[str, tuple[Path, EncoderBlock]] = {}
    for path in sorted(folder.glob("*.yaml")):
        for name, block in read_experiments(path).encoders.items():
            if name in encoders:
                raise ConfigurationError(
                    f"{path}: encoder {name} is also in {encoders[name][0]}.",
                    to_fix="give one of them another name; names are unique across experiments files",
                )
            encoders[name] = (path, block)
    return encoders


class Settings(_Strict):
    """Where things lie, and what to do with them."""

    data: Path
    reference: Path
    store: Path
    experiments_file: Path
    cluster: str = "local"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the `CYTONET_*` variables; defaults lie below the project folder."""
        env = os.environ if environment is None else environment

        def folder(name: str, default: str) -> Path:
            return Path(env.get(name) or PROJECT / default).expanduser().absolute()

        return cls(
            data=folder("CYTONET_DATA", "demo/brains"),
            reference=folder("CYTONET_REFERENCE", "demo/tpl-MNIColin27"),
            store=folder("CYTONET_STORE", "store"),
            experiments_file=folder("CYTONET_EXPERIMENTS", "experiments/demo.yaml"),
            cluster=env.get("CYTONET_CLUSTER") or "local",
        )

    def environment(self) -> dict[str, str]:
        """The variables that make a child process see the same settings."""
        return {
            "CYTONET_DATA": str(self.data),
            "CYTONET_REFERENCE": str(self.reference),
            "CYTONET_STORE": str(self.store),
            "CYTONET_EXPERIMENTS": str(self.experiments_file),
            "CYTONET_CLUSTER": self.cluster,
        }

    @cached_property
    def experiments(self) -> Experiments:
        """The experiments file that is acted on."""
        return read_experiments(self.experiments_file)

    def encoder(self, name: str) -> EncoderBlock:
        """An encoder of the experiments file.

        Raises
        ------
        ConfigurationError
            The file has no such encoder.
        """
        try:
            return self.experiments.encoders[name]
        except KeyError:
            known = ", ".join(self.experiments.encoders)
            raise ConfigurationError(
                f"{self.experiments_file}: no encoder {name!r} (it has {known}).",
                to_fix="set CYTONET_EXPERIMENTS to the file that has it",
            ) from None

    def held_out(self, encoder: str) -> str:
        """The unseen brain of an encoder."""
        return self.encoder(encoder).held_out or self.experiments.dataset.held_out


def _said(error: Any) -> str:
    return "misspelt, no such key" if error["type"] == "extra_forbidden" else str(error["msg"])
