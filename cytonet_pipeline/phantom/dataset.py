"""The BIDS data set around the painted sections: folders, sidecars, tables and descriptions."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from cytonet_pipeline import __version__
from cytonet_pipeline.phantom.reference import Reference
from cytonet_pipeline.phantom.sections import LABEL_UM, Painted, Painter, SectionPlan

_BIDS = "1.10.0"
_TILE = (256, 256)
_LEVELS = 3
README = """Synthetic brains
================

Every section in this data set was painted by a program (cytonet phantom). No tissue was ever cut: the cells are larger
than life, and the texture of each area is invented. The data set shows that the pipeline works, not how well a method
does on brains.

{reference}

Sections are coronal, 20 um thick, at {pixel_um:g} um a pixel. Two thirds of them are annotated. Area borders differ
from brain to brain by a few mm, independently of the transforms.
"""


def write_texts(folder: Path, brains: list[str], plans: dict[str, list[SectionPlan]], readme: str) -> None:
    """Write what a BIDS data set says about itself, its participants and its samples."""
    _write_json(
        folder / "dataset_description.json",
        {
            "Name": "Synthetic brains (phantom): painted by a program, no tissue",
            "BIDSVersion": _BIDS,
            "DatasetType": "raw",
            "License": "CC0",
            "Authors": ["cytonet phantom"],
            "GeneratedBy": [{"Name": "cytonet phantom", "Version": __version__}],
        },
    )
    (folder / "README").write_text(readme, encoding="utf-8")
    participants = [{"participant_id": f"sub-{b}", "species": "homo sapiens", "ingest": "ready"} for b in brains]
    _write_tsv(folder / "participants.tsv", participants)
    _write_json(
        folder / "participants.json",
        {"ingest": {"Description": "Whether a brain is complete", "Levels": {"ready": "taken up by the pipeline"}}},
    )
    samples = [
        {"sample_id": f"sample-{plan.sample}", "participant_id": f"sub-{b}", "sample_type": "tissue"}
        for b in brains
        for plan in plans[b]
    ]
    _write_tsv(folder / "samples.tsv", samples)
    for name in ("registration", "segmentation", "annotation"):
        _write_json(
            folder / "derivatives" / name / "dataset_description.json",
            {
                "Name": f"Synthetic brains (phantom): {name}",
                "BIDSVersion": _BIDS,
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "cytonet phantom", "Version": __version__}],
            },
        )


def write_area_names(folder: Path, reference: Reference) -> None:
    """Write the label table of the annotations: the areas of the atlas, hemispheres merged."""
    table = reference.table
    areas: pd.DataFrame = table[table["kind"] == "area"].drop_duplicates("area").sort_values("area")
    names = areas[["area", "name", "color"]].rename(columns={"area": "index"})
    path = folder / "derivatives" / "annotation" / "desc-areas_dseg.tsv"
    names.to_csv(path, sep="\t", index=False)


def write_registration(folder: Path, painter: Painter, plans: list[SectionPlan], *, with_inverse: bool) -> None:
    """Write a brain's matrices from scan to brain, and its transform to the reference."""
    stem = f"sub-{painter.brain}"
    here = folder / "derivatives" / "registration" / stem
    here.mkdir(parents=True)
    rows = [
        {"sample_id": f"sample-{plan.sample}"}
        | {f"m{r}{c}": f"{plan.matrix[r, c]:.6f}" for r in range(3) for c in range(4)}
        for plan in plans
    ]
    _write_tsv(here / f"{stem}_from-scan_to-brain_mode-points_xfm.tsv", rows)
    painter.bend.write(here / f"{stem}_from-brain_to-MNIColin27_mode-points_xfm.h5")
    if with_inverse:
        painter.bend.write_inverse(
            here / f"{stem}_from-MNIColin27_to-brain_mode-points_xfm.h5", painter.reference.extent_mm()
        )


def write_section(folder: Path, painter: Painter, plan: SectionPlan, painted: Painted) -> None:
    """Write a section's scan, sidecar, mask and, if it has one, annotation."""
    scan = scan_path(folder, painter.brain, plan)
    scan.parent.mkdir(parents=True, exist_ok=True)
    _write_pyramid(scan, painted.scan, painter.pixel_um)
    write_beside_scan(folder, painter.brain, plan, painted.mask, painted.annotation, pixel_um=painter.pixel_um)


def scan_path(folder: Path, brain: str, plan: SectionPlan) -> Path:
    """Return where a section's scan lies."""
    return folder / f"sub-{brain}" / "micr" / f"sub-{brain}_sample-{plan.sample}_stain-merker_BF.tif"


def write_beside_scan(
    folder: Path,
    brain: str,
    plan: SectionPlan,
    mask: np.ndarray,
    annotation: np.ndarray,
    *,
    pixel_um: float,
    label_um: float = LABEL_UM,
) -> None:
    """Write a section's sidecar, mask and, if it has one, annotation; pixel sizes of scan and labels in µm."""
    scan = scan_path(folder, brain, plan)
    _write_json(
        scan.with_suffix(".json"),
        {
            "PixelSize": [pixel_um, pixel_um],
            "PixelSizeUnits": "um",
            "SliceThickness": 20,
            "SampleStaining": "Merker",
            "BodyPart": "BRAIN",
            "SampleEnvironment": "ex vivo",
            "Manufacturer": "n/a",
        },
    )
    derivatives, sub = folder / "derivatives", scan.relative_to(folder).parent
    stem = f"sub-{brain}_sample-{plan.sample}"
    _write_labels(derivatives / "segmentation" / sub / f"{stem}_desc-cortex_mask.tif", mask, label_um)
    if plan.annotated:
        _write_labels(derivatives / "annotation" / sub / f"{stem}_desc-areas_dseg.tif", annotation, label_um)


def _write_pyramid(path: Path, scan: np.ndarray, pixel_um: float) -> None:
    """Write a tiled BigTIFF with coarser levels as SubIFDs, each the mean of 2 × 2 pixels."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        level = scan
        for k in range(_LEVELS):
            file.write(
                level,
                photometric="minisblack",
                tile=_TILE,
                compression="zstd",
                predictor=False,
                resolution=(1e4 / (pixel_um * 2**k),) * 2,
                resolutionunit="CENTIMETER",
                subifds=_LEVELS - 1 if k == 0 else None,
                subfiletype=0 if k == 0 else 1,
                software=False,
                metadata=None,
            )
            height, width = (n // 2 * 2 for n in level.shape)
            quads = level[:height, :width].reshape(height // 2, 2, width // 2, 2)
            level = np.round(quads.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)


def _write_labels(path: Path, labels: np.ndarray, label_um: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        labels,
        photometric="minisblack",
        compression="zlib",
        resolution=(1e4 / label_um,) * 2,
        resolutionunit="CENTIMETER",
        software=False,
        metadata=None,
    )


def _write_tsv(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
