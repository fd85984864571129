"""Where things lie in the store. The layout is a contract: other programs read it.

Only paths are made here. What stands behind them is written and read by the room that it belongs to.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store.atomic import beside, write_json
from cytonet_pipeline.store.tables import read_record, write_record


@dataclass(frozen=True)
class Store:
    """The folder that holds every result (`CYTONET_STORE`)."""

    root: Path

    # -- reference and brains ---------------------------------------------------------------------------------------
    def reference_space(self) -> Path:
        """Return the folder of the checked reference space: its record and picture."""
        return self.root / "reference_space"

    def section_scans(self, brain: str) -> Path:
        """Return the folder with a brain's `sections.parquet` and contact sheet."""
        return self.root / "section_scans" / f"brain={brain}"

    def colin27_transforms(self, brain: str) -> Path:
        """Return the folder with a brain's `chain.json`, `quality.json` and picture."""
        return self.root / "colin27_transforms" / f"brain={brain}"

    def patch_index(self, brain: str) -> Path:
        """Return the folder with a brain's `part-*.parquet`."""
        return self.root / "patch_index" / f"brain={brain}"

    def indexed_brains(self) -> list[str]:
        """Return the brains with a patch index, sorted; of a brain that failed there is a folder without parts."""
        parts = (self.root / "patch_index").glob("brain=*/part-*.parquet")
        return sorted({part.parent.name.partition("=")[2] for part in parts})

    # -- encoders ---------------------------------------------------------------------------------------------------
    def training_set(self, version: str) -> Path:
        """Return the folder with `training_set.json` and `sections.parquet`."""
        return self.root / "training_sets" / version

    def training_sets(self) -> list[str]:
        """Return all versions with a training set, sorted."""
        return _folder_names(self.root / "training_sets")

    def encoder(self, encoder: str, version: str) -> Path:
        """Return the folder of one trained version of an encoder."""
        return self.root / "encoders" / encoder / version

    def encoder_versions(self, encoder: str) -> list[str]:
        """Return all versions of an encoder in the store, sorted by name."""
        return _folder_names(self.root / "encoders" / encoder)

    def encoders(self) -> list[str]:
        """Return all encoders in the store, sorted."""
        return _folder_names(self.root / "encoders")

    def wanted_version(self, encoder: str) -> str | None:
        """Return the version that the last `training_set` of this encoder decided on; None before the first."""
        path = self.root / "training_sets" / f"{encoder}.json"
        return str(read_record(path)["version"]) if path.exists() else None

    def point_wanted(self, encoder: str, version: str) -> None:
        """Record which training set an encoder is to be trained on."""
        write_record(self.root / "training_sets" / f"{encoder}.json", {"encoder": encoder, "version": version})

    def current_version(self, encoder: str) -> str | None:
        """Return the version of the encoder that evaluation and users take; None before the first training."""
        path = self.root / "encoders" / encoder / "current.json"
        return str(read_record(path)["version"]) if path.exists() else None

    def point_current(self, encoder: str, version: str) -> None:
        """Make a trained version the current one."""
        write_record(self.root / "encoders" / encoder / "current.json", {"encoder": encoder, "version": version})

    def current_encoder(self, encoder: str) -> Path:
        """Return the folder of the current version.

        Raises
        ------
        StoreError
            The encoder has not been trained yet.
        """
        version = self.current_version(encoder)
        if version is None:
            raise StoreError(
                f"encoder {encoder}: not trained yet.",
                looked_for=str(self.root / "encoders" / encoder / "current.json"),
                to_fix=f"cytonet run --encoders {encoder}",
            )
        return self.encoder(encoder, version)

    # -- evaluation -------------------------------------------------------------------------------------------------
    def patch_embeddings(self, encoder: str, version: str, brain: str | None = None) -> Path:
        """Return the folder of an encoder's features; of one brain if named."""
        folder = self.root / "patch_embeddings" / encoder / version
        return folder if brain is None else folder / f"brain={brain}"

    def linear_probes(self, encoder: str, version: str, protocol: str | None = None) -> Path:
        """Return the folder of an encoder's probes; of one protocol if named."""
        folder = self.root / "linear_probes" / encoder / version
        return folder if protocol is None else folder / protocol

    def umap(self, encoder: str, version: str) -> Path:
        """Return the folder with coordinates, plots and the surface map."""
        return self.root / "umap" / encoder / version

    def area_maps(self, encoder: str, version: str) -> Path:
        """Return the folder with predicted label volumes and overlays."""
        return self.root / "area_maps" / encoder / version

    def metrics(self) -> Path:
        """Return the folder of the table of results."""
        return self.root / "metrics"


# What is said of single brains may be said later: it stands in the digests of what is made from it.
_OF_SINGLE_BRAINS = ("schema_version", "window", "invert", "mask_value")


def open_store(settings: Settings) -> Store:
    """Open the store for writing, bound to one data set and one `dataset:` block.

    Two blocks in one store would mix patches of different size or split in one table.

    Raises
    ------
    StoreError
        It was made from another data set or with another block, or cannot be written.
    """
    store = Store(settings.store)
    path = store.root / "store.json"
    claim = {"data_set": _name_of(settings.data), **settings.experiments.dataset.model_dump(mode="json")}
    if not path.exists():
        write_record(path, claim)
        return store
    held = read_record(path)
    keys = [key for key in {**claim, **held} if key not in _OF_SINGLE_BRAINS]
    differing = [
        f"{key} was {held.get(key)!r}, now {claim.get(key)!r}" for key in keys if held.get(key) != claim.get(key)
    ]
    if differing:
        raise StoreError(
            f"{store.root}: this store was made with other settings: {'; '.join(differing)}.",
            looked_for=str(path),
            to_fix="set CYTONET_STORE to another folder, or go back to the settings in store.json",
        )
    return store


def _name_of(data: Path) -> str:
    try:
        return str(json.loads((data / "dataset_description.json").read_text(encoding="utf-8"))["Name"])
    except (OSError, ValueError, KeyError):
        return data.name


def write_stamp(folder: Path, inputs: dict[str, object]) -> None:
    """Record what a result was made from, as `inputs.json`; written last, so that it also says *complete*."""
    write_json(beside(folder, "inputs.json"), inputs)


def read_stamp(folder: Path) -> dict[str, Any] | None:
    """Return what the result in a folder was made from; None if it is missing or incomplete."""
    try:
        stamp = json.loads(beside(folder, "inputs.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def is_current(folder: Path, inputs: dict[str, object]) -> bool:
    """Return whether the result in `folder` is complete and was made from exactly these inputs."""
    return read_stamp(folder) == json.loads(json.dumps(inputs, default=str))


def _folder_names(folder: Path) -> list[str]:
    if not folder.exists():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
