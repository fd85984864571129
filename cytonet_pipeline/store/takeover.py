"""Results of version 0.2.1, whose stamps name no files: each is read once and digested, and its stamp completed."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cytonet_pipeline.errors import DamagedResult
from cytonet_pipeline.progress import track
from cytonet_pipeline.store.damage import mark, marked
from cytonet_pipeline.store.locks import lock
from cytonet_pipeline.store.paths import EVALUATIONS, Store, result_folders
from cytonet_pipeline.store.readable import fault_of_content
from cytonet_pipeline.store.seals import begin_taking_over, end_taking_over, pointers_in
from cytonet_pipeline.store.stamps import files_of_result, full_stamp, is_drawing, write_stamp
from cytonet_pipeline.store.tables import read_record, write_pointer

# A store of terabytes takes hours; a second process then finds nothing left to do.
_WAIT_S = 6 * 3600.0
_log = logging.getLogger(__name__)


def take_over(store: Store) -> None:
    """Complete the stamps of all results of version 0.2.1, and say so in the log.

    A file that cannot be read is marked as damaged: its result counts as stale, and is made again by the next run.
    Records that lie beside no stamp get a digest of their own, `store.json` the last: it says that all is done.
    """
    with lock(store.root / ".takeover.lock", "reading results of version 0.2.1", wait_s=_WAIT_S):
        begin_taking_over(store.root)
        found = list(results_without_digests(store))
        if found:
            _log.warning("%s: a store of version 0.2.1; its results are read once to record digests", store.root)
        taken = sum(_take(folder, inputs) for folder, inputs in track(found, "digesting earlier results"))
        if found:
            _log.warning("%s: %d results digested, %d damaged", store.root, taken, len(found) - taken)
        for pointer in pointers_in(store.root):
            try:
                write_pointer(pointer, read_record(pointer))
            except DamagedResult as error:
                _log.warning("%s", error)
        end_taking_over(store.root)


def results_without_digests(store: Store) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the folders of finished results whose stamps name no files, parts first, and what each was made from."""
    for folder in result_folders(store):
        try:
            stamp = full_stamp(folder)
        except DamagedResult:
            continue  # Stale, and made again.
        if stamp is not None and stamp.files is None:
            yield folder, stamp.inputs
        # Encoders and training sets had no stamps at all.
        if stamp is None and any((folder / record).exists() for record in ("encoder.json", "training_set.json")):
            yield folder, {"version": folder.name}


def _take(folder: Path, inputs: dict[str, Any]) -> bool:
    for path in files_of_result(folder):
        if (fault := fault_of_content(path)) is not None:
            mark(path, fault)
            _log.warning("%s: %s; it counts as missing", path, fault)
    if marked(folder):
        return False
    drawn_after = folder.parent.parent.name in EVALUATIONS
    drawn = drawn_after and any(is_drawing(path.name) for path in files_of_result(folder))
    write_stamp(folder, inputs, drawn=drawn)
    return True
