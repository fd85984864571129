"""What has happened to sections since an encoder learned from them: withdrawn, deleted, changed, not released.

What was recorded with the encoder is compared with the data set and the store as they are now.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from cytonet_pipeline.dataset import Brain, Dataset
from cytonet_pipeline.errors import DataFault, StoreError
from cytonet_pipeline.histology.formats.registry import open_reader
from cytonet_pipeline.histology.inventory.reuse import inputs_digest
from cytonet_pipeline.patches import read_index_parameters
from cytonet_pipeline.settings import DatasetBlock, Settings
from cytonet_pipeline.store import Store, read_table

_USABLE = ("ok", "flagged")
_SCANS = ["sample", "digest", "mask_digest", "annotation_digest", "status", "reason", "inputs"]
# Column of the record: what it is called.
_COMPARED = {"digest": "scan", "mask_digest": "mask", "annotation_digest": "annotation"}


@dataclass
class _Now:
    """A brain as it is now: why it takes no part, and what data set, inventory and index say of its sections."""

    left_out: str = ""
    brain: Brain | None = None
    inventory: dict[str, dict[Any, Any]] = field(default_factory=dict)
    index: dict[str, dict[str, Any]] = field(default_factory=dict)


def happened_since(sections: pd.DataFrame, settings: Settings, store: Store) -> pd.Series:
    """Describe what has happened to sections since they were recorded with an encoder.

    Parameters
    ----------
    sections : DataFrame
        Rows of the table `training_sections`.

    Returns
    -------
    Series of str
        One text per row; empty where nothing has happened.

    Raises
    ------
    ConfigurationError
        There is no data set to compare with.
    """
    brains = {brain: _now(brain, settings, store) for brain in sections["brain"].unique()}
    block = settings.experiments.dataset
    texts = ["; ".join(_events(row, brains[row["brain"]], block)) for row in sections.to_dict("records")]
    return pd.Series(texts, index=sections.index, dtype=object)


def _now(name: str, settings: Settings, store: Store) -> _Now:
    dataset = Dataset(settings.data, settings.experiments.dataset)
    now = _Now(dataset.reasons_against([name]).get(name, "").removeprefix(f"{name}: "))
    if name in dataset.brains():
        now.brain = dataset.brain(name)
    try:
        rows = read_table(store.section_scans(name) / "sections.parquet", "section_scans")
        present: list[dict[Any, Any]] = (
            rows[[name for name in _SCANS if name in rows]].astype(object).to_dict("records")
        )
        now.inventory = {str(row["sample"]): row for row in present}
        now.index = read_index_parameters(store, name)["sections"]
    except StoreError:
        pass  # Taken out of the store, or not whole there: the data set alone answers.
    return now


def _events(recorded: dict[Any, Any], now: _Now, block: DatasetBlock) -> Iterator[str]:
    sample = str(recorded["sample"])
    if now.left_out:
        yield f"brain left out: {now.left_out.rstrip('.')}"
    if now.brain is None:
        return
    section = next((each for each in now.brain.sections if each.sample == sample), None)
    if section is None:
        yield "deleted: the data set does not have it any more"
        return
    if section.status != "ok":
        yield f"{section.status}: {section.reason}"
        return
    stored = now.inventory.get(sample)
    if stored is None or stored.get("inputs") != inputs_digest(section, now.brain, block):
        # Its files were touched since they were last surveyed, or never were: the scan itself is asked.
        try:
            if section.scan is not None and open_reader(section.scan, section.pick).digest() != recorded["digest"]:
                yield "scan changed"
        except DataFault as fault:
            yield f"unreadable: {fault.what}"
        return
    if stored["status"] not in _USABLE:
        yield f"{stored['status']}: {stored['reason']}"
        return
    yield from (f"{what} changed" for column, what in _COMPARED.items() if _differs(recorded[column], stored[column]))
    transform = now.index.get(sample, {}).get("transform_digest")
    if transform is not None and transform != recorded["transform_digest"]:
        yield "transform changed"


def _differs(before: Any, after: Any) -> bool:
    return bool(before != after and not (pd.isna(before) and pd.isna(after)))
