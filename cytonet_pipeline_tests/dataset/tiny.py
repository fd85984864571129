"""A data set of one brain with three small sections, written file by file so that tests can spoil each."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from cytonet_pipeline.dataset.matrices import COLUMNS

SAMPLES = ("0010", "0020", "0030")
HEIGHT, WIDTH, PIXEL_UM = 120, 160, 100.0


def section_picture(shift: int = 0, seed: int | None = None) -> np.ndarray:
    """A disc of tissue on a light slide, `shift` pixels to the right; other cells for every seed."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = (y - 60) ** 2 + (x - 70 - shift) ** 2 < 40**2
    cells = np.random.default_rng(shift if seed is None else seed).integers(90, 180, (HEIGHT, WIDTH))
    return np.where(inside, cells, 235).astype(np.uint8)


def ring(shift: int = 0) -> np.ndarray:
    """The rim of the same disc, at half the resolution: its cortex."""
    y, x = np.mgrid[: HEIGHT // 2, : WIDTH // 2] * 2 + 1.0
    radius = np.hypot(y - 60, x - 70 - shift)
    return ((radius < 40) & (radius > 28)).astype(np.uint8)


class TinyDataset:
    """Writes the data set and knows where its files lie."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.micr = root / "sub-B01/micr"
        self.masks = root / "derivatives/segmentation/sub-B01/micr"
        self.annotations = root / "derivatives/annotation/sub-B01/micr"
        self.registration = root / "derivatives/registration/sub-B01"
        self.matrices = self.registration / "sub-B01_from-scan_to-brain_mode-points_xfm.tsv"
        self.to_reference = self.registration / "sub-B01_from-brain_to-MNIColin27_mode-points_xfm"
        self.table = root / "derivatives/sections/sub-B01/sub-B01_sections.tsv"

    def write(self) -> "TinyDataset":
        """Write everything that a brain needs."""
        for folder in (self.micr, self.masks, self.annotations, self.registration, self.table.parent):
            folder.mkdir(parents=True)
        (self.root / "dataset_description.json").write_text('{"Name": "Tiny", "BIDSVersion": "1.10.0"}')
        self.write_participants({"participant_id": ["sub-B01"], "ingest": ["ready"]})
        (self.annotations.parent.parent / "desc-areas_dseg.tsv").write_text("index\tname\tcolor\n1\tArea 1\t#112233\n")
        for sample in SAMPLES:
            self.write_scan(sample)
            tifffile.imwrite(self.mask(sample), ring(), compression="deflate", metadata=None)
        tifffile.imwrite(self.annotation("0010"), ring(), compression="deflate", metadata=None)
        self.write_matrices(self.rows())
        self.to_reference.with_suffix(".h5").write_bytes(b"not read here")
        return self

    def scan(self, sample: str) -> Path:
        return self.micr / f"sub-B01_sample-{sample}_stain-merker_BF.tif"

    def mask(self, sample: str) -> Path:
        return self.masks / f"sub-B01_sample-{sample}_desc-cortex_mask.tif"

    def annotation(self, sample: str) -> Path:
        return self.annotations / f"sub-B01_sample-{sample}_desc-areas_dseg.tif"

    def write_scan(self, sample: str, name: str = "", shift: int = 0) -> Path:
        """Write a scan and its sidecar."""
        path = self.micr / name if name else self.scan(sample)
        tifffile.imwrite(
            path,
            section_picture(shift, int(sample) if sample.isdigit() else 1),
            tile=(64, 64),
            compression="deflate",
            metadata=None,
        )
        sidecar = {"PixelSize": [PIXEL_UM, PIXEL_UM], "PixelSizeUnits": "um"}
        path.with_suffix(".json").write_text(json.dumps(sidecar))
        return path

    def rows(self) -> list[dict[str, object]]:
        """Return one row of the matrix table per section, 2 mm apart along y."""
        identity = np.array([[1, 0, 0, -8.0], [0, 0, -1, 0], [0, -1, 0, 6]])
        rows = []
        for number, sample in enumerate(SAMPLES):
            matrix = identity.copy()
            matrix[1, 3] = 2.0 * number
            rows.append({"sample_id": f"sample-{sample}", **dict(zip(COLUMNS, matrix.ravel().tolist(), strict=True))})
        return rows

    def write_matrices(self, rows: list[dict[str, object]]) -> None:
        pd.DataFrame(rows).to_csv(self.matrices, sep="\t", index=False, na_rep="n/a")

    def write_table(self, rows: list[dict[str, object]]) -> None:
        pd.DataFrame(rows).to_csv(self.table, sep="\t", index=False, na_rep="n/a")

    def write_participants(self, columns: dict[str, list[str]]) -> None:
        pd.DataFrame(columns).to_csv(self.root / "participants.tsv", sep="\t", index=False)

    def table_rows(self) -> list[dict[str, object]]:
        """Return a section table that agrees with the file names."""
        return [
            {
                "sample_id": sample,
                "section": int(sample),
                "scan": self.scan(sample).relative_to(self.root).as_posix(),
                "mask": self.mask(sample).relative_to(self.root).as_posix(),
                "annotation": None,
                "pixel_size_um": PIXEL_UM,
                "stain": "merker",
                "status": "ok",
                "reason": None,
            }
            for sample in SAMPLES
        ]
