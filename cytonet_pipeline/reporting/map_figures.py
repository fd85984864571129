"""All figures of an encoder's area maps, drawn beside the volumes in the store."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.evaluation.maps.label_volume import read_volume
from cytonet_pipeline.histology import open_scan
from cytonet_pipeline.progress import track
from cytonet_pipeline.registration import ReferenceSpace
from cytonet_pipeline.reporting.map_drawings import section_overlay, volume_figure
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, is_drawn, read_record, read_table, record_drawings

# Overlays per brain, evenly along the series, as a brain may have thousands of sections. The grid covers them all.
MAX_OVERLAYS = 24
_THUMBNAIL_PX = 400


def map_figures(encoder: str, settings: Settings, store: Store) -> Mapping[str, Path]:
    """Draw the figures of the current version, if they are not there as they were drawn.

    Returns
    -------
    mapping
        PNGs to show, by title: the slices of each brain and its best annotated section.
    """
    folder = store.area_maps(encoder, store.current_encoder(encoder).name)
    record = read_record(folder / "figures.json")
    mapped = [brain for brain, figures in record["brains"].items() if figures["mapped"]]
    grids = {brain: read_table(folder / f"sub-{brain}_desc-predicted_grid.parquet", "map_grid") for brain in mapped}
    overlays = {
        (brain, sample): folder / f"sub-{brain}_sample-{sample}_desc-predicted_overlay.png"
        for brain, rows in grids.items()
        for sample in overlaid_samples(rows)
    }
    slices = {brain: folder / f"sub-{brain}_space-MNIColin27_desc-predicted_slices.png" for brain in mapped}
    if not is_drawn(folder, [*overlays.values(), *slices.values()]):
        _draw(encoder, settings, store, grids, overlays, slices)
        record_drawings(folder)
    shown = {f"predicted areas of {brain}": path for brain, path in slices.items()}
    for brain, rows in grids.items():
        sample = _best_annotated(rows, [s for b, s in overlays if b == brain])
        shown[f"section {sample} of {brain}"] = overlays[(brain, sample)]
    return shown


def overlaid_samples(rows: pd.DataFrame, at_most: int = MAX_OVERLAYS) -> list[str]:
    """Return the sections of a grid to draw, ordered by number, evenly spaced if there are more than `at_most`."""
    samples = rows[["section", "sample"]].drop_duplicates().sort_values(["section", "sample"])["sample"].to_list()
    if len(samples) <= at_most:
        return samples
    return [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, at_most).round().astype(int))]


def _draw(
    encoder: str,
    settings: Settings,
    store: Store,
    grids: Mapping[str, pd.DataFrame],
    overlays: Mapping[tuple[str, str], Path],
    slices: Mapping[str, Path],
) -> None:
    dataset = Dataset(settings.data, settings.experiments.dataset)
    reference = ReferenceSpace.load(settings.reference)
    for brain, path in slices.items():
        stem = path.with_name(f"sub-{brain}_space-MNIColin27_desc-predicted")
        labels, affine = read_volume(Path(f"{stem}_dseg.nii.gz"))
        probability, _ = read_volume(Path(f"{stem}_probseg.nii.gz"))
        title = f"{encoder}: predicted areas of sub-{brain} in {reference.folder.name}"
        volume_figure(reference, labels, probability, affine, path, title)
    for (brain, sample), path in track(overlays.items(), "drawing predicted areas", total=len(overlays)):
        rows = grids[brain]
        _overlay(dataset, brain, rows[rows["sample"] == sample], store, path, encoder)


def _overlay(dataset: Dataset, name: str, rows: pd.DataFrame, store: Store, path: Path, encoder: str) -> None:
    sample, block = str(rows["sample"].iloc[0]), dataset.block
    sections = read_table(store.section_scans(name) / "sections.parquet", "section_scans").set_index("sample")
    pixel_um = float(sections["pixel_um"].loc[sample])
    source = next(section for section in dataset.brain(name).sections if section.sample == sample)
    assert source.scan is not None, "a section without a scan has no grid"
    window, invert = block.window_of(name), bool(block.invert_of(name))
    with open_scan(source.scan, pixel_um, window, invert=invert, pick=source.pick) as scan:
        thumbnail = scan.thumbnail(_THUMBNAIL_PX)
        size_mm = (scan.width_px * pixel_um / 1000, scan.height_px * pixel_um / 1000)
    placed = rows.assign(x_mm=rows["x_px"] * pixel_um / 1000, y_mm=rows["y_px"] * pixel_um / 1000)
    title = f"{encoder}: sub-{name}, section {sample}"
    section_overlay(placed, thumbnail, size_mm, dataset.area_names(), path, title)


def _best_annotated(rows: pd.DataFrame, drawn: list[str]) -> str:
    annotated = rows[rows["sample"].isin(drawn)].groupby("sample")["annotated_area"].agg(lambda a: (a > 0).sum())
    return str(annotated.idxmax())
