"""Random patches of 2048 px from a tiled scan, against decoding just the tiles that they touch.

Four BigTIFFs of 16,384² px, Zstd and JPEG in tiles of 256 and 512 px, are written by tifffile with dark cells, slow
shading and noise of the camera. The bare rate is `pread` and imagecodecs for exactly the tiles touched, nothing put
together. Every side reads the same patches, in turns.

Two ways of reading: `one scan`, where a quarter of the picture fits into the cache of decoded tiles, and `many scans`,
64 names of the file of which each patch takes another, so that no tile is met again: training straight from scans.
tifffile's zarr view and OpenSlide are printed beside it.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from report import alternate, announce, claim
from scipy import ndimage

from cytonet_pipeline.histology import Scan, open_scan

EDGE_PX, PATCH_PX, BLOCK_PX = 16_384, 2048, 2048
NAMES = 64
ONE_THREAD, TWO_THREADS = 0.9, 0.85

Centres = list[tuple[int, int]]


def picture(seed: int) -> np.ndarray:
    """A section without end: cells of about 5 px on a ground of varying light, noise of 2.5 grey values."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((BLOCK_PX, BLOCK_PX), np.float32)
    cells[tuple(rng.integers(0, BLOCK_PX, (2, BLOCK_PX**2 // 150)))] = rng.uniform(0.4, 1, BLOCK_PX**2 // 150)
    cells = ndimage.gaussian_filter(cells, 2.5, mode="wrap")
    ground = ndimage.gaussian_filter(rng.standard_normal(cells.shape).astype(np.float32), 128, mode="wrap")
    noise = rng.normal(0, 2.5, cells.shape)
    grey = 225 - 130 * np.minimum(1.6 * cells / cells.max(), 1) - 25 * ground / np.abs(ground).max() + noise
    block, count = grey.clip(0, 255).astype(np.uint8), EDGE_PX // BLOCK_PX
    turned = [[np.roll(np.rot90(block, i + j), (100 * i, 77 * j), (0, 1)) for j in range(count)] for i in range(count)]
    return np.block(turned)


class Bare:
    """Decodes the tiles that patches touch, and nothing else."""

    def __init__(self, path: Path) -> None:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages.first
            self.offsets, self.counts = page.dataoffsets, page.databytecounts
            self.edge, self.across = page.tilewidth, EDGE_PX // page.tilewidth
            self.decode = imagecodecs.jpeg8_decode if page.compression == 7 else imagecodecs.zstd_decode
        self.file = os.open(path, os.O_RDONLY)

    def __call__(self, centres: Centres) -> None:
        """Decode the tiles of patches."""
        for x, y in centres:
            rows, columns = (
                range((c - PATCH_PX // 2) // self.edge, (c + PATCH_PX // 2 - 1) // self.edge + 1) for c in (y, x)
            )
            for row in rows:
                for column in columns:
                    tile = row * self.across + column
                    self.decode(os.pread(self.file, self.counts[tile], self.offsets[tile]))


def reader(scans: list[Scan]) -> Callable[[Centres], None]:
    """Reads each patch from the next scan, into one array."""

    def read(centres: Centres) -> None:
        out = np.empty((PATCH_PX, PATCH_PX), np.uint8)
        for x, y in centres:
            scans[(x + y) % len(scans)].read_patch(x, y, PATCH_PX, 1.0, out=out)

    return read


def zarr_view(path: Path) -> Callable[[Centres], None] | None:
    """The way of tifffile to read regions."""
    try:
        import zarr
    except ImportError:
        return None
    view = zarr.open(tifffile.imread(path, aszarr=True), mode="r")

    def read(centres: Centres) -> None:
        half = PATCH_PX // 2
        for x, y in centres:
            np.asarray(view[y - half : y + half, x - half : x + half])

    return read


def openslide_region(path: Path) -> tuple[Callable[[Centres], None] | None, str]:
    """OpenSlide's `read_region`, or why it cannot."""
    try:
        import openslide
    except ImportError as error:
        return None, str(error)
    try:
        slide = openslide.OpenSlide(path)
        slide.read_region((0, 0), 0, (8, 8))
    except openslide.OpenSlideError as error:
        return None, str(error)

    def read(centres: Centres) -> None:
        for x, y in centres:
            slide.read_region((x - PATCH_PX // 2, y - PATCH_PX // 2), 0, (PATCH_PX, PATCH_PX))

    return read, ""


def measure(path: Path, name: str, *, patches: int, rounds: int, seed: int) -> list[bool]:
    """Print the rates of one file and whether they keep what is claimed."""
    scans = []
    for number in range(NAMES):
        link = path.with_name(f"{name}-{number}.tif")
        link.symlink_to(path)
        scans.append(open_scan(link))
    _require_equal(path, scans[0], drawn(np.random.default_rng(seed), 2))
    bare, sides, kept = Bare(path), {"one scan": reader(scans[:1]), "many scans": reader(scans)}, []
    slide, why_not = openslide_region(path)
    print(
        f"\n{name}: {path.stat().st_size / 2**20:.0f} MiB"
        + (f"; OpenSlide does not read it: {why_not}" if why_not else "")
    )
    with ThreadPoolExecutor(2) as pool:
        for name_of_side, read in sides.items():
            # The cache learns what is worth keeping before time is taken.
            read(drawn(np.random.default_rng(seed + 1), 120))
            for threads, least in ((1, ONE_THREAD), (2, TWO_THREADS)):
                ours, theirs = (_turns(side, pool, threads, patches, seed + 2) for side in (read, bare))
                taken = alternate(rounds, bare=theirs, ours=ours)
                rates = {what: patches / seconds for what, seconds in taken.items()}
                print(
                    f"      {name_of_side}, threads {threads}: "
                    f"bare {rates['bare']:.1f}, ours {rates['ours']:.1f} patches/s"
                )
                what = f"{name}, {name_of_side}, threads {threads}, share of the bare rate"
                kept.append(claim(what, rates["ours"] / rates["bare"], least, at_most=False))
    others = {"zarr view": zarr_view(path), "OpenSlide": slide}
    few = drawn(np.random.default_rng(seed), max(4, patches // 4))
    for what, other in others.items():
        if other is not None:
            seconds = alternate(1, other=lambda other=other: other(few))["other"]
            print(f"      {what}, threads 1: {len(few) / seconds:.1f} patches/s")
    for scan in scans:
        scan.close()
    return kept


def drawn(rng: np.random.Generator, count: int) -> Centres:
    """Random centres of patches that lie within the scan."""
    return [(int(x), int(y)) for x, y in rng.integers(PATCH_PX // 2, EDGE_PX - PATCH_PX // 2, (count, 2))]


def _turns(
    read: Callable[[Centres], None], pool: ThreadPoolExecutor, threads: int, patches: int, seed: int
) -> Callable[[], None]:
    """One turn reads other patches than the last one, or all of them would come from the cache; alike for all sides."""
    rng = np.random.default_rng(seed)

    def turn() -> None:
        centres = drawn(rng, patches)
        if threads == 1:
            read(centres)
        else:
            list(pool.map(read, [centres[number::threads] for number in range(threads)]))

    return turn


def _require_equal(path: Path, scan: Scan, centres: Centres) -> None:
    pixels, half = tifffile.imread(path), PATCH_PX // 2
    for x, y in centres:
        if not (scan.read_patch(x, y, PATCH_PX, 1.0) == pixels[y - half : y + half, x - half : x + half]).all():
            raise SystemExit(f"{path}: read_patch and tifffile differ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=24, help="patches each side reads in one turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns; the median counts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the scans are written (0.6 GiB)")
    options = parser.parse_args()
    announce(f"Patches of {PATCH_PX} px from BigTIFFs of {EDGE_PX:,}² px, seed {options.seed}")
    kept = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        pixels = picture(options.seed)
        for compression in ("zstd", "jpeg"):
            for tile in (256, 512):
                name = f"{compression}-{tile}"
                path = Path(folder) / f"{name}.tif"
                size = {"resolution": (10_000, 10_000), "resolutionunit": "CENTIMETER", "metadata": None}
                tifffile.imwrite(path, pixels, tile=(tile, tile), compression=compression, bigtiff=True, **size)
                kept += measure(path, name, patches=options.patches, rounds=options.rounds, seed=options.seed)
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
