"""A tick of the sensor `new_brains`, beside looking at every file of every brain, as it did until 0.2.1."""

import argparse
import contextlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from report import announce, claim

from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.watching import Watch

EXPERIMENTS = """
dataset: {density_per_mm3: 1, held_out: N000}
encoders: {one: {method: position, working_pixel_um: 64, steps: 0}}
"""
SIDECAR = '{"PixelSize": [1, 1], "PixelSizeUnits": "um"}'


def write_brain(root: Path, brain: str, sections: int) -> None:
    """Scans, sidecars and masks, all but empty, as nobody opens them here, and the tables that place them."""
    micr, masks = root / f"sub-{brain}/micr", root / f"derivatives/segmentation/sub-{brain}/micr"
    registration = root / f"derivatives/registration/sub-{brain}"
    for folder in (micr, masks, registration):
        folder.mkdir(parents=True)
    rows = ["\t".join(["sample_id", *(f"m{row}{column}" for row in range(3) for column in range(4))])]
    for number in range(sections):
        stem = f"sub-{brain}_sample-{number:04}"
        (micr / f"{stem}_stain-merker_BF.tif").touch()
        (micr / f"{stem}_stain-merker_BF.json").write_text(SIDECAR)
        (masks / f"{stem}_desc-cortex_mask.tif").touch()
        rows.append(f"{number:04}\t1\t0\t0\t0\t0\t0\t1\t{number * 0.02}\t0\t1\t0\t0")
    (registration / f"sub-{brain}_from-scan_to-brain_mode-points_xfm.tsv").write_text("\n".join(rows) + "\n")
    (registration / f"sub-{brain}_from-brain_to-MNIColin27_mode-points_xfm.mat").touch()


@contextlib.contextmanager
def data_set(brains: list[str], sections: int) -> Iterator[Settings]:
    """Write a data set; it is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="cytonet-bench-sensor-"))
    try:
        root = folder / "brains"
        for brain in brains:
            write_brain(root, brain, sections)
        rows = ["participant_id\tingest", *(f"sub-{brain}\tready" for brain in brains)]
        (root / "participants.tsv").write_text("\n".join(rows) + "\n")
        (folder / "experiments.yaml").write_text(EXPERIMENTS)
        yield Settings(
            data=root,
            reference=folder / "reference",
            store=folder / "store",
            experiments_file=folder / "experiments.yaml",
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tick(watch: Watch, settings: Settings) -> tuple[Watch, float]:
    """One look with the cursor of the one before; processor seconds: other work on the machine does not count."""
    text, began = watch.as_text(), time.process_time()
    again = Watch.from_text(text)
    again.look(settings)
    return again, time.process_time() - began


def main() -> int:
    """Run it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--brains", type=int, default=100)
    arguments.add_argument("--sections", type=int, default=7000)
    arguments.add_argument("--all-files-of", type=int, default=3, help="brains that the other side is measured on")
    given = arguments.parse_args()
    brains = [f"N{number:03}" for number in range(given.brains)]
    announce(f"{given.brains} brains of {given.sections} sections, a scan, a sidecar and a mask each")
    with data_set(brains, given.sections) as settings:
        watch, first = Watch(), []
        while not first or watch.unexamined:
            watch, seconds = tick(watch, settings)
            first.append(seconds)
        print(f"first examination: {len(first)} ticks, the longest {max(first):.2f} s")
        quiet = []
        for _ in range(10):
            watch, seconds = tick(watch, settings)
            quiet.append(seconds)
        (settings.data / f"sub-{brains[-1]}" / "micr" / f"sub-{brains[-1]}_sample-9999_stain-merker_BF.tif").touch()
        watch, changed = tick(watch, settings)
        began = time.process_time()
        measured = brains[: given.all_files_of]
        participants = settings.data / "participants.tsv"
        participants.write_text("\n".join(["participant_id\tingest", *(f"sub-{b}\tready" for b in measured)]) + "\n")
        Watch().look(settings, budget_s=float("inf"))
        every = (time.process_time() - began) / len(measured) * given.brains
        print(f"cursor: {len(watch.as_text())} bytes")
    print(
        f"every file of every brain: {every:.1f} s (of {len(measured)} brains, times {given.brains / len(measured):g})"
    )
    print(
        f"a tick when nothing has changed: {statistics.median(quiet):.2f} s, 1 : {every / statistics.median(quiet):.0f}"
    )
    print(f"a tick that finds a new section: {changed:.2f} s, 1 : {every / changed:.0f}")
    kept = [
        claim("longest tick", max(*first, *quiet, changed), 2.0, at_most=True, unit=" s"),
        claim("every file : a tick", every / statistics.median(quiet), 10.0, at_most=False),
    ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    raise SystemExit(main())
