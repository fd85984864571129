"""From a voxel of a predicted map back to the grid point, the probe and the encoder that it comes from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cytonet_pipeline.errors import ConfigurationError, StoreError
from cytonet_pipeline.evaluation.maps.label_volume import read_volume
from cytonet_pipeline.lineage import folder_of
from cytonet_pipeline.store import REFERENCE_MM, Store, digest_file, read_record, read_table, verified

_VOLUME = "_space-MNIColin27_desc-predicted_dseg.nii.gz"


@dataclass(frozen=True)
class MapOfAreas:
    """A map of the store: whose it is, and where it lies."""

    encoder: str
    version: str
    brain: str
    path: Path


@dataclass(frozen=True)
class VoxelOrigin:
    """Where the label of a voxel comes from.

    Attributes
    ----------
    voxel : (i, j, k)
    centre_mm : (3,) array
        Centre of the voxel in Colin-27, RAS.
    label : int
        Index in the map's label table; 0: no prediction there.
    area : str
        Name and hemisphere of the label; empty without one.
    probability : float
        Of the predicted area; 0 without one.
    probe : Path
        Folder of the probe that predicted it.
    grid : dict
        The grid point that the voxel's label was taken from: `brain`, `sample`, `x_px`, `y_px`, `distance_mm` from the
        centre of the voxel; without a label, the nearest one.
    """

    voxel: tuple[int, int, int]
    centre_mm: np.ndarray
    label: int
    area: str
    probability: float
    probe: Path
    grid: dict[str, object]


def find_map(given: str, store: Store) -> MapOfAreas:
    """Find a map by the path of its volume, of a copy of it, or by `encoder` or `encoder@version`.

    Raises
    ------
    ConfigurationError
        The file is no map of the store; or an encoder has maps of several brains.
    StoreError
        There is no such encoder, or it has no map.
    """
    path = Path(given)
    if "/" not in given and not path.suffix and not path.exists():
        encoder, _, version = given.partition("@")
        folder = folder_of(encoder, store, version or None)
        found = [each for each in _maps(store) if (each.encoder, each.version) == (encoder, folder.name)]
        if len(found) > 1:
            listed = ", ".join(str(each.path) for each in found)
            raise ConfigurationError(f"{given} has maps of several brains.", to_fix=f"name one of {listed}")
        if not found:
            raise StoreError(
                f"{given}: there is no map of areas.",
                looked_for=str(store.area_maps(encoder, folder.name) / f"sub-*{_VOLUME}"),
                to_fix=f"cytonet run --encoders {encoder}",
            )
        return found[0]
    if not path.is_file():
        raise ConfigurationError(f"{given}: no such file.", to_fix="name a map of areas, or an encoder")
    maps = list(_maps(store))
    same = [each for each in maps if each.path.resolve() == path.resolve()]
    same = same or [each for each in maps if each.path.stat().st_size == path.stat().st_size and _is_copy(path, each)]
    if not same:
        raise ConfigurationError(
            f"{given}: neither a map of areas of {store.root} nor a copy of one.",
            looked_for=str(store.root / "area_maps" / "*" / "*" / f"sub-*{_VOLUME}"),
            to_fix="name a map of this store, or set CYTONET_STORE to the store that made it",
        )
    return same[0]


def origin_of_voxel(made: MapOfAreas, point: np.ndarray, *, in_voxels: bool, store: Store) -> VoxelOrigin:
    """Follow the label of a voxel back.

    Parameters
    ----------
    point : (3,) array
        In Colin-27, RAS (mm); or, `in_voxels`, the indices i, j, k of a voxel.

    Raises
    ------
    ConfigurationError
        The point lies outside the volume.
    """
    labels, affine = read_volume(made.path)
    exact = point if in_voxels else np.linalg.solve(affine[:3, :3], point - affine[:3, 3])
    voxel = np.round(exact).astype(int)
    if (voxel < 0).any() or (voxel >= labels.shape).any():
        raise ConfigurationError(
            f"{', '.join(f'{value:g}' for value in point)}: outside {made.path.name}, voxel {tuple(voxel.tolist())} of "
            f"{' × '.join(map(str, labels.shape))}.",
            to_fix="give millimetres in Colin-27 (RAS), or voxel indices with --index",
        )
    i, j, k = (int(value) for value in voxel)
    centre_mm = affine[:3, :3] @ voxel + affine[:3, 3]
    label = int(labels[i, j, k])
    row = _row_of_label(made, label)
    probability = read_volume(made.path.with_name(made.path.name.replace("_dseg", "_probseg")))[0][i, j, k]
    figures = read_record(made.path.parent / "figures.json")
    return VoxelOrigin(
        (i, j, k),
        centre_mm,
        label,
        f"{row['name']}, {row['hemisphere']}" if row is not None else "",
        float(probability),
        store.linear_probes(made.encoder, made.version, str(figures["protocol"])),
        _grid_point(made, centre_mm, str(row["hemisphere"]) if row is not None else None),
    )


def _maps(store: Store) -> list[MapOfAreas]:
    found = sorted((store.root / "area_maps").glob(f"*/*/sub-*{_VOLUME}"))
    return [
        MapOfAreas(p.parent.parent.name, p.parent.name, p.name.removeprefix("sub-").removesuffix(_VOLUME), p)
        for p in found
        if not p.parent.name.startswith(".")
    ]


def _is_copy(path: Path, made: MapOfAreas) -> bool:
    return digest_file(path) == digest_file(made.path)


def _row_of_label(made: MapOfAreas, label: int) -> "pd.Series | None":
    if label == 0:
        return None
    path = made.path.with_name(made.path.name.replace(".nii.gz", ".tsv"))
    table = pd.read_csv(verified(path), sep="\t", dtype={"name": str, "hemisphere": str}, keep_default_na=False)
    rows = table[table["index"] == label]
    if rows.empty:
        raise StoreError(f"{made.path}: label {label} is not in {path.name}.", to_fix="cytonet run")
    return rows.iloc[0]


def _grid_point(made: MapOfAreas, centre_mm: np.ndarray, hemisphere: str | None) -> dict[str, object]:
    """Return the grid point nearest to the centre of a voxel, of one hemisphere if it is known: the map's own rule."""
    path = made.path.with_name(f"sub-{made.brain}_desc-predicted_grid.parquet")
    columns = ["brain", "sample", "x_px", "y_px", *REFERENCE_MM, "hemisphere", "predicted_area", "annotated_area"]
    grid = read_table(path, "map_grid", columns=columns)
    grid = grid if hemisphere is None else grid[grid["hemisphere"] == hemisphere]
    distance_mm = np.linalg.norm(grid[list(REFERENCE_MM)].to_numpy(np.float64) - centre_mm, axis=1)
    nearest = grid.iloc[int(distance_mm.argmin())]
    return {
        "brain": str(nearest["brain"]),
        "sample": str(nearest["sample"]),
        "x_px": int(nearest["x_px"]),
        "y_px": int(nearest["y_px"]),
        "predicted_area": int(nearest["predicted_area"]),
        "annotated_area": int(nearest["annotated_area"]),
        "distance_mm": float(distance_mm.min()),
    }
