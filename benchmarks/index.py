"""Building the patch index: seconds and peak memory for a million patches, and for ten million.

The brains are synthetic and of the poster's size (`cytonet phantom --scale poster`). Timed is what the asset
`patch_index` does: masks, sampling, transforms, atlas labels, depth, Parquet. Each size is built in a process of its
own, so that its peak memory is its own. The mock that is named beside it had no depth: 5 s and 0.6 GiB a million.
"""

import argparse
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from report import announce, claim

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.histology import open_scan
from cytonet_pipeline.patches import index_brain
from cytonet_pipeline.phantom import poster, write_phantom
from cytonet_pipeline.registration import ReferenceSpace, resolve_chain
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline.store import digest_file, read_table, table, write_table

# Such that a brain of 459 sections has 1.1 million patches, and the nine of the poster ten million.
BLOCK = DatasetBlock(density_per_mm3=4.1, held_out="B20", test_blocks=8)
ROWS_PER_BRAIN = 1_120_000


def main() -> int:
    """Measure, and say whether the claims are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many patches, in whole brains")
    parser.add_argument("--folder", type=Path, help="keep the synthetic brains here, and use them again")
    options = parser.parse_args()
    announce(f"patch index of about {options.rows:,} patches")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        brains = poster.BRAINS[: max(1, min(9, round(options.rows / ROWS_PER_BRAIN)))]
        data = prepared(folder, brains)
        one = in_own_process(data, brains[:1], Path(temporary))
        tell(brains[:1], one)
        kept = [
            claim("seconds a million patches", one["seconds"] / one["rows"] * 1e6, 20, at_most=True, unit=" s"),
            claim("peak memory", one["gib"], 1.5, at_most=True, unit=" GiB"),
        ]
        if len(brains) > 1:
            many = in_own_process(data, brains, Path(temporary))
            tell(brains, many)
            ratio = (many["seconds"] / many["rows"]) / (one["seconds"] / one["rows"])
            kept.append(claim("seconds a patch, of those of one brain", ratio, 1.2, at_most=True))
            kept.append(claim("peak memory", many["gib"], 2.0, at_most=True, unit=" GiB"))
    return 0 if all(kept) else 1


def tell(brains: tuple[str, ...], built: dict[str, float]) -> None:
    """Say what was measured."""
    megabytes = built["bytes"] / 1e6
    print(
        f"{len(brains)} brain(s), {built['rows']:,.0f} patches: {built['seconds']:.1f} s, {built['cpu']:.1f} s of "
        f"processor, {built['gib']:.2f} GiB, {megabytes:.0f} MB on disk"
    )


def prepared(folder: Path, brains: tuple[str, ...]) -> Path:
    """Synthetic brains with what the two steps before the index would say of them; not timed."""
    data = folder / f"poster-{len(brains)}"
    print(f"writing {459 * len(brains)} synthetic sections …", flush=True)
    write_phantom(data, brains=brains, sections=459 * len(brains), scale="poster")
    dataset = Dataset(data / "brains", BLOCK)
    for name in brains:
        if not surveyed(data, name).exists():
            write_table(surveyed(data, name), survey_rows(dataset.brain(name)), "section_scans")
    return data


def surveyed(data: Path, brain: str) -> Path:
    """Where the rows of a brain's sections lie."""
    return data.parent / f"{data.name}-{brain}.parquet"


def survey_rows(brain):
    """What a survey says of the sections, as far as sampling asks for it."""
    import pandas as pd

    empty = dict.fromkeys(column.name for column in table("section_scans").columns)
    rows = []
    for section in brain.sections:
        with open_scan(section.scan) as scan:
            known = {"width_px": scan.width_px, "height_px": scan.height_px, "pixel_um": scan.pixel_um}
        described = {"brain": brain.name, "sample": section.sample, "section": section.section, "path": section.path}
        counts = {"bytes": 0, "levels": 4, "bits": 8, "status": "ok", "reason": ""}
        mask = {"mask_path": str(section.mask), "mask_digest": digest_file(section.mask)}
        note = section.annotation and {"annotation_path": str(section.annotation), "annotation_digest": "a"}
        rows.append(empty | described | known | counts | mask | (note or {}))
    return table("section_scans").validate(pd.DataFrame(rows))


def in_own_process(data: Path, brains: tuple[str, ...], folder: Path) -> dict[str, float]:
    """Index brains in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(build, data, brains, folder).result()


def build(data: Path, brains: tuple[str, ...], folder: Path) -> dict[str, float]:
    """Index brains one after the other; time, processor time, rows, bytes, and peak memory of this process."""
    import pyarrow.dataset

    dataset = Dataset(data / "brains", BLOCK)
    began, began_cpu = time.perf_counter(), time.process_time()
    reference = ReferenceSpace.load(data / "tpl-MNIColin27")
    folders = []
    for name in brains:
        brain = dataset.brain(name)
        sections = read_table(surveyed(data, name), "section_scans")
        folders.append(Path(tempfile.mkdtemp(dir=folder)))
        index_brain(folders[-1], brain, sections, resolve_chain(brain), reference, BLOCK)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    parts = [str(part) for place in folders for part in place.glob("part-*.parquet")]
    return {
        "seconds": seconds,
        "cpu": cpu,
        "rows": pyarrow.dataset.dataset(parts).count_rows(),
        "bytes": sum(Path(part).stat().st_size for part in parts),
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


if __name__ == "__main__":
    sys.exit(main())
