"""A rehearsal at the poster's size: 9 brains, 4128 sections of 100,000 × 80,000 px, ten million patches.

Writes the synthetic brains, then brings them in as `cytonet run --brains` does, without Dagster: `section_scans`,
`colin27_transforms` and `patch_index` of every brain. Then one mask changes, and all is asked for again. A stage runs
in a process of its own, whose peak memory is reported.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from report import announce, claim

from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store

SECTIONS = 4128
# The synthetic brains have less cortex than real ones, for which the poster's file has 2.5 patches a mm³.
DENSITY_PER_MM3 = 4.1
EXPERIMENTS = """
dataset: {{patch_um: 4096, density_per_mm3: {density}, held_out: B20, gap_mm: 1.0, test_blocks: 8}}
encoders: {{}}
"""
MINUTES, GIB, SECONDS_AFTER_A_CHANGE = 20.0, 6.0, 60.0


@dataclass(frozen=True)
class Stage:
    """What one stage took: seconds by the clock, seconds of processor, peak memory (GiB), and what came out."""

    name: str
    seconds: float
    processor: float
    gib: float
    made: str


def main() -> int:
    """Rehearse, and say whether the claims are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep everything here: the data set is written once")
    parser.add_argument("--sections", type=int, default=SECTIONS, help="fewer for a quick look, and fewer patches")
    options = parser.parse_args()
    announce(f"rehearsal of {options.sections} sections")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        # As many patches per section, however few sections.
        settings = settings_below(folder, DENSITY_PER_MM3 * options.sections / SECTIONS)
        shutil.rmtree(settings.store, ignore_errors=True)
        written = measured("phantom", write_data, settings, options.sections)
        stages = [measured(name, run_step, settings, name) for name in STEPS]
        changed = change_a_mask(settings, "B03")
        again = [measured(f"{name}, one mask changed", run_step, settings, name) for name in STEPS]
        shutil.copyfile(changed.with_suffix(".kept"), changed)
        changed.with_suffix(".kept").unlink()
    minutes = sum(stage.seconds for stage in stages) / 60
    kept = [
        claim("the three assets", minutes, MINUTES, at_most=True, unit=" min"),
        claim("peak memory", max(stage.gib for stage in (written, *stages)), GIB, at_most=True, unit=" GiB"),
        claim(
            "after one changed section", sum(s.seconds for s in again), SECONDS_AFTER_A_CHANGE, at_most=True, unit=" s"
        ),
        claim("brains touched by it", touched(again), 1, at_most=True),
    ]
    return 0 if all(kept) else 1


def settings_below(folder: Path, density_per_mm3: float) -> Settings:
    """Everything in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    experiments = folder / "rehearsal.yaml"
    experiments.write_text(EXPERIMENTS.format(density=density_per_mm3), encoding="utf-8")
    data = folder / "poster"
    return Settings(
        data=data / "brains",
        reference=data / "tpl-MNIColin27",
        store=folder / "store",
        experiments_file=experiments,
    )


def write_data(settings: Settings, sections: int) -> str:
    """Write the synthetic brains, unless they are there."""
    from cytonet_pipeline.phantom import write_phantom

    folder = settings.data.parent
    write_phantom(folder, scale="poster", sections=sections)
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return f"{len(files)} files, {sum(files) / 1e9:.2f} GB"


def run_step(settings: Settings, name: str) -> str:
    """One asset of all brains, one after the other; says how many were made anew."""
    from cytonet_pipeline.dataset import Dataset
    from cytonet_pipeline.stages import REFERENCE_SPACE, stage_of

    REFERENCE_SPACE.run(settings, None)
    brains = Dataset(settings.data, settings.experiments.dataset).brains()
    before = [state_of(settings, name, brain) for brain in brains]
    for brain in brains:
        stage_of(name).run(settings, brain)
    made = sum(state_of(settings, name, brain) != state for brain, state in zip(brains, before, strict=True))
    return f"{made} of {len(brains)} brains, {output(settings, name)}"


STEPS = ("section_scans", "colin27_transforms", "patch_index")


def state_of(settings: Settings, name: str, brain: str) -> int | None:
    """Which folder holds a brain's result; a result that is made again is a new folder."""
    folder = getattr(Store(settings.store), name)(brain)
    return folder.stat().st_ino if folder.exists() else None


def output(settings: Settings, name: str) -> str:
    """What lies in the store of an asset."""
    import pyarrow.dataset

    if name == "colin27_transforms":
        return "chains and their quality"
    pattern = "part-*.parquet" if name == "patch_index" else "sections.parquet"
    files = [str(path) for path in (settings.store / name).glob(f"brain=*/{pattern}")]
    rows = pyarrow.dataset.dataset(files).count_rows()
    return f"{rows:,} rows, {sum(Path(file).stat().st_size for file in files) / 1e6:.0f} MB"


def change_a_mask(settings: Settings, brain: str) -> Path:
    """Take a strip out of one mask in the middle of a brain; the old one is kept beside it."""
    import tifffile

    masks = sorted((settings.data / f"derivatives/segmentation/sub-{brain}/micr").glob("*_mask.tif"))
    path = masks[len(masks) // 2]
    shutil.copyfile(path, path.with_suffix(".kept"))
    mask = tifffile.imread(path)
    mask[:, : mask.shape[1] // 3] = 0
    tifffile.imwrite(path, mask, compression="zlib")
    return path


def touched(stages: list[Stage]) -> int:
    """The largest number of brains that a stage made anew."""
    return max(int(stage.made.split(" ", 1)[0]) for stage in stages)


def measured(name: str, work: Callable[..., str], *arguments: object) -> Stage:
    """Do something in a fresh process and print what it took."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        stage = Stage(name, *pool.submit(timed, work, *arguments).result())
    print(
        f"| {stage.name} | {stage.seconds:.0f} s | {stage.processor:.0f} s | {stage.gib:.2f} GiB | {stage.made} |",
        flush=True,
    )
    return stage


def timed(work: Callable[..., str], *arguments: object) -> tuple[float, float, float, str]:
    """What `work` took in this process."""
    began, processor = time.perf_counter(), time.process_time()
    made = work(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return time.perf_counter() - began, time.process_time() - processor, peak, made


if __name__ == "__main__":
    sys.exit(main())
