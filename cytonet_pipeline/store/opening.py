"""Opening a store for writing: it belongs to one data set and one `dataset:` block."""

import json
from pathlib import Path

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store.paths import Store
from cytonet_pipeline.store.seals import CLAIM, begin_taking_over, is_sealed
from cytonet_pipeline.store.tables import read_record, write_pointer, write_record
from cytonet_pipeline.store.takeover import results_without_digests, take_over

# Keys about single brains or scans may be added later: they stand in the digests of what is made from it.
_OF_SINGLE_BRAINS = ("schema_version", "window", "invert", "mask_value", "plausible_pixel_um")


def open_store(settings: Settings) -> Store:
    """Open the store for writing, bound to one data set and one `dataset:` block.

    Two blocks in one store would mix patches of different size or split in one table. A store of version 0.2.1 is taken
    over: its results are read once and digested.

    Raises
    ------
    StoreError
        It was made from another data set or with another block, cannot be written, or its `store.json` is damaged.
    """
    store = Store(settings.store)
    path = store.root / CLAIM
    if not path.exists():
        if not any(results_without_digests(store)):
            write_pointer(path, _claim(settings))
            return store
        begin_taking_over(store.root)
        write_record(path, _claim(settings))
    require_claim(settings)
    if not is_sealed(path):
        take_over(store)
    return store


def require_claim(settings: Settings) -> None:
    """Refuse a store of another data set or `dataset:` block; nothing is written.

    Raises
    ------
    StoreError
        It names the keys that differ.
    """
    path = settings.store / "store.json"
    held, claim = read_record(path), _claim(settings)
    keys = [key for key in {**claim, **held} if key not in _OF_SINGLE_BRAINS]
    differing = [
        f"{key} was {held.get(key)!r}, now {claim.get(key)!r}" for key in keys if held.get(key) != claim.get(key)
    ]
    if differing:
        raise StoreError(
            f"{settings.store}: this store was made with other settings: {'; '.join(differing)}.",
            looked_for=str(path),
            to_fix="set CYTONET_STORE to another folder, or go back to the settings in store.json",
        )


def _claim(settings: Settings) -> dict[str, object]:
    return {"data_set": _name_of(settings.data), **settings.experiments.dataset.model_dump(mode="json")}


def _name_of(data: Path) -> str:
    try:
        return str(json.loads((data / "dataset_description.json").read_text(encoding="utf-8"))["Name"])
    except (OSError, ValueError, KeyError):
        return data.name
