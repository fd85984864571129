"""Reusing the rows of an earlier index: sections whose rows would be the same again are copied.

The digests in the files' metadata (`section_rows.record_of`) decide, section by section.
"""

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.patches.index_files import parts_in, read_metadata
from cytonet_pipeline.store import read_table, verified

log = logging.getLogger(__name__)

# What is known of a section only after its rows are drawn.
DRAWING_RESULTS = ("drawn", "left_out", "problem")


@dataclass(frozen=True, eq=False)
class EarlierIndex:
    """A brain's index as an earlier run left it.

    Attributes
    ----------
    parameters : dict
        The parameters in the metadata of each part, by part.
    """

    parameters: Mapping[Path, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "EarlierIndex":
        """Read the metadata of the parts in a brain's folder; parts that cannot be read are skipped."""
        parameters = {}
        for part in parts_in(folder):
            try:
                # Rows are copied from it unread: its digest is compared here.
                parameters[part] = json.loads(read_metadata(verified(part))[b"parameters"])
            except (StoreError, ValueError, KeyError) as error:
                log.info("%s: not reused: %s", part, error)
        return cls(parameters)

    def whole_part(self, known: Mapping[str, dict[str, Any]], dataset: Mapping[str, Any]) -> Path | None:
        """Return the part that holds exactly these sections, as it would be written now; None if there is none.

        Parameters
        ----------
        known : mapping from sample to record
            The record of each section (`section_rows.record_of`).
        dataset : mapping
            The resolved `dataset:` block.
        """
        for part, parameters in self.parameters.items():
            before = parameters.get("sections", {})
            if before.keys() != known.keys() or parameters.get("dataset") != dataset or "digest" not in parameters:
                continue
            if all(_same(before[sample], record, whole=True) for sample, record in known.items()):
                return part
        return None

    def rows(self, known: Mapping[str, dict[str, Any]]) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
        """Return the rows of sections that would be the same again, and the results of drawing them."""
        frames: list[pd.DataFrame] = []
        results: dict[str, dict[str, Any]] = {}
        for part, parameters in self.parameters.items():
            before = parameters.get("sections", {})
            kept = [sample for sample in known if sample in before and _same(before[sample], known[sample])]
            if not kept:
                continue
            try:
                frames.append(_rows_of(part, kept))
            except StoreError as error:
                log.info("%s: not reused: %s", part, error)
                continue
            results |= {sample: {key: before[sample][key] for key in DRAWING_RESULTS} for sample in kept}
        return (pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()), results


def _same(before: Mapping[str, Any], now: Mapping[str, Any], *, whole: bool = False) -> bool:
    # A section that could not be drawn is tried again.
    if before.get("problem", "?") or any(key not in before for key in DRAWING_RESULTS):
        return False
    keys = now.keys() if whole else ("inputs",)
    return all(before.get(key) == now[key] for key in keys)


def _rows_of(part: Path, samples: Collection[str]) -> pd.DataFrame:
    return read_table(part, "patch_index", where=pyarrow.dataset.field("sample").isin(list(samples)))
