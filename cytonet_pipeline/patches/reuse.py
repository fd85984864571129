"""Rows of an index that is there already: what would come out the same again is taken from it.

Currency is decided by the digests in the files' metadata (`section_rows.record_of`), section by section.
"""

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset
import pyarrow.parquet

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.patches.index_files import parts_in
from cytonet_pipeline.store import read_table, require_version

log = logging.getLogger(__name__)

# What is only known of a section when its rows are drawn.
FOUND = ("drawn", "left_out", "problem")


@dataclass(frozen=True, eq=False)
class EarlierIndex:
    """A brain's index as it was left by an earlier run.

    Attributes
    ----------
    parameters : dict
        By part, what its metadata says.
    """

    parameters: Mapping[Path, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "EarlierIndex":
        """Look at the parts in a brain's folder; parts that cannot be read are passed over."""
        found = {}
        for part in parts_in(folder):
            try:
                metadata = pyarrow.parquet.read_schema(part).metadata
                require_version(part, "patch_index", metadata)
                found[part] = json.loads(metadata[b"parameters"])
            except (StoreError, OSError, ValueError, KeyError) as error:
                log.info("%s: not used again: %s", part, error)
        return cls(found)

    def whole_part(self, known: Mapping[str, dict[str, Any]], dataset: Mapping[str, Any]) -> Path | None:
        """The part that holds exactly these sections, made as it would be made now; None if there is none.

        Parameters
        ----------
        known : mapping from sample to record
            What `section_rows.record_of` says of each section.
        dataset : mapping
            The resolved `dataset:` block.
        """
        for part, said in self.parameters.items():
            before = said.get("sections", {})
            if before.keys() != known.keys() or said.get("dataset") != dataset or "digest" not in said:
                continue
            if all(_same(before[sample], record, whole=True) for sample, record in known.items()):
                return part
        return None

    def rows(self, known: Mapping[str, dict[str, Any]]) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
        """Rows of those sections that would come out the same, and what was found of each."""
        frames: list[pd.DataFrame] = []
        found: dict[str, dict[str, Any]] = {}
        for part, said in self.parameters.items():
            before = said.get("sections", {})
            kept = [sample for sample in known if sample in before and _same(before[sample], known[sample])]
            if not kept:
                continue
            try:
                frames.append(_rows_of(part, kept))
            except StoreError as error:
                log.info("%s: not used again: %s", part, error)
                continue
            found |= {sample: {key: before[sample][key] for key in FOUND} for sample in kept}
        return (pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()), found


def _same(before: Mapping[str, Any], now: Mapping[str, Any], *, whole: bool = False) -> bool:
    # A section that could not be drawn is tried again.
    if before.get("problem", "?") or any(key not in before for key in FOUND):
        return False
    keys = now.keys() if whole else ("inputs",)
    return all(before.get(key) == now[key] for key in keys)


def _rows_of(part: Path, samples: Collection[str]) -> pd.DataFrame:
    return read_table(part, "patch_index", where=pyarrow.dataset.field("sample").isin(list(samples)))
