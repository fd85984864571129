"""Annotations as contours: GeoJSON polygons of areas, as QuPath writes them.

Points are looked up in the polygons themselves, so areas are as exact as they were drawn; nothing is rasterised.
Vertices are full-resolution pixels of the scan, x to the right and y down, from the outer corner of the first pixel; a
member `"unit"` of the FeatureCollection is `px` (default), `um` or `mm`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import shape

from cytonet_pipeline.dataset import Areas, read_json_value
from cytonet_pipeline.errors import DataFault, ScanError
from cytonet_pipeline.histology.annotations.plane import PlaneLabels

EXTENSIONS = (".geojson", ".json")
_UNITS = ("px", "um", "mm")
# Polygons may extend beyond the scan by this fraction of its edge: people draw over the rim.
_BEYOND = 0.05
_LARGEST = 2**31 - 1
# Between the parts of a derived class of QuPath.
_DERIVED = ": "
_MOST_PARENTS = 16


@dataclass(frozen=True, eq=False)
class Contours(PlaneLabels):
    """Areas of a scan as polygons. Where they overlap the last one counts.

    Attributes
    ----------
    polygons : list of shapely geometries
        Polygons with holes, in scan mm.
    areas : list of int
        Number of the area of each.
    unknown : tuple of str
        Names or numbers that the table of areas lacks; their polygons are left out.
    """

    path: Path
    polygons: list[shapely.Geometry]
    areas: list[int]
    unknown: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path, width_mm: float, height_mm: float, pixel_um: float, areas: Areas | None) -> "Contours":
        """Read the contours of a scan whose plane is `width_mm` × `height_mm`.

        Parameters
        ----------
        pixel_um : float
            Edge of a full-resolution pixel.
        areas : Areas, optional
            Those that `desc-areas_dseg.tsv` lists. Without them an area is known by its number alone, any number.

        Raises
        ------
        ScanError
            The file is no GeoJSON, a feature is no polygon or names no area, or the polygons lie outside the scan.
        """
        features, mm = _features(path, pixel_um)
        polygons, numbers, unknown = [], [], []
        for name, feature in features:
            area = _area(feature, areas, f"{path}, {name}")
            polygon = _polygon(feature, f"{path}, {name}", mm)
            _require_inside(polygon, width_mm, height_mm, f"{path}, {name}")
            if isinstance(area, str):
                unknown.append(area)
            else:
                polygons.append(polygon)
                numbers.append(area)
        return cls(path, polygons, numbers, tuple(dict.fromkeys(unknown)))

    def _at(self, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
        labels = np.zeros(x_mm.shape, np.int32)
        for polygon, area in zip(self.polygons, self.areas, strict=True):
            left, top, right, bottom = polygon.bounds
            near = (x_mm >= left) & (x_mm <= right) & (y_mm >= top) & (y_mm <= bottom)
            if near.any():
                within = labels[near]
                within[shapely.contains_xy(polygon, x_mm[near], y_mm[near])] = area
                labels[near] = within
        return labels


def _features(path: Path, pixel_um: float) -> tuple[list[tuple[str, dict[str, Any]]], float]:
    """Read the features, each with a name for messages, and the length of one unit of their coordinates (mm)."""
    try:
        content = read_json_value(path)
    except DataFault as fault:
        raise ScanError(f"{path}: {fault.what}") from fault
    unit = content.get("unit", "px") if isinstance(content, dict) else "px"
    if unit not in _UNITS:
        raise ScanError(f"{path}: its unit is {unit!r}.", to_fix="write px, um or mm")
    # QuPath before 0.3 writes a bare list of features, and one feature if one is selected.
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(f, dict) and f.get("type") == "Feature" for f in features):
        raise ScanError(
            f"{path}: is no GeoJSON FeatureCollection.",
            to_fix="export the annotations from QuPath as GeoJSON, or give a label image",
        )
    return [(_name(number, feature), feature) for number, feature in enumerate(features, 1)], _mm(unit, pixel_um)


def _mm(unit: str, pixel_um: float) -> float:
    return {"px": pixel_um / 1000, "um": 1e-3, "mm": 1.0}[unit]


def _name(number: int, feature: dict[str, Any]) -> str:
    area = next(_names(feature), "")
    return f"feature {number}" + (f" ({area})" if area else "")


def _names(feature: dict[str, Any]) -> Iterator[str]:
    """Yield the names that a feature may give its area: its classification first, then its own name."""
    properties = feature.get("properties")
    if not isinstance(properties, dict):
        return
    for name in (_class_name(properties.get("classification")), properties.get("name")):
        if isinstance(name, str) and name.strip():
            yield name.strip()


def _class_name(classification: Any) -> str:
    """Return the name of a class as QuPath shows it: `Base: Derived` for a derived one; empty if it has none.

    QuPath writes a derived class as a list of names since version 0.4, as a chain of parents before; it reads a class
    from a string as well.
    """
    parts: list[str] = []
    for _ in range(_MOST_PARENTS):
        if not isinstance(classification, dict):
            break
        names = classification.get("names")
        parts = [*(names if isinstance(names, list) else [classification.get("name")]), *parts]
        classification = classification.get("parentClass")
    if isinstance(classification, str):
        parts = [classification, *parts]
    return _DERIVED.join(part.strip() for part in parts if isinstance(part, str) and part.strip())


def _area(feature: dict[str, Any], areas: Areas | None, place: str) -> int | str:
    """Return the number of a feature's area; its name or number as text if the table lacks it."""
    properties = feature.get("properties")
    index = properties.get("index") if isinstance(properties, dict) else None
    if index is not None:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 < index <= _LARGEST:
            raise ScanError(f"{place}: its index is {index!r}.", to_fix="write the number of an area, from 1")
        return index if areas is None or index in areas.numbers else str(index)
    names = list(_names(feature))
    if not names:
        raise ScanError(
            f"{place}: does not say which area it is.",
            to_fix="give it a class in QuPath, and export annotations only; or give it a property index, a number",
        )
    known = {} if areas is None else areas.by_name
    spelled = Counter(_spelled(name) for name in known)
    # Two names that differ in their spaces alone are told apart by their spelling.
    known = {_spelled(name): number for name, number in known.items() if spelled[_spelled(name)] == 1} | dict(known)
    return next((known[key] for name in names for key in (name, _spelled(name)) if key in known), names[0])


def _spelled(name: str) -> str:
    """Return a name with the spaces that QuPath puts between the parts of a derived class."""
    return _DERIVED.join(part.strip() for part in name.split(":"))


def _polygon(feature: dict[str, Any], place: str, mm: float) -> shapely.Geometry:
    geometry = feature.get("geometry")
    geometry = geometry if isinstance(geometry, dict) else {}
    kind = geometry.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        raise ScanError(f"{place}: is a {kind}, not a polygon.", to_fix="close the line, or delete the feature")
    plane = geometry.get("plane")
    if isinstance(plane, dict) and any(plane.get(axis) not in (None, 0) for axis in "zt"):
        raise ScanError(
            f"{place}: lies in z-slice {plane.get('z', 0)} at time {plane.get('t', 0)}, a scan has one of each.",
            to_fix="export the annotations of the slice that the scan shows",
        )
    try:
        polygon = shapely.transform(shapely.force_2d(shape(geometry)), lambda xy: xy * mm)
    except Exception as error:  # whatever the file holds instead of numbers
        raise ScanError(
            f"{place}: its coordinates cannot be read ({type(error).__name__}: {error!s:.80}).",
            to_fix="export the annotations again",
        ) from error
    if polygon.is_empty or not np.isfinite(polygon.bounds).all():
        raise ScanError(f"{place}: has no area or a coordinate that is not finite.", to_fix="draw it again")
    if not polygon.is_valid:
        # A contour drawn by hand may cross itself: what it encloses an odd number of times is inside.
        polygon = shapely.make_valid(polygon)
    shapely.prepare(polygon)
    return polygon


def _require_inside(polygon: shapely.Geometry, width_mm: float, height_mm: float, place: str) -> None:
    left, top, right, bottom = polygon.bounds
    spare = _BEYOND * max(width_mm, height_mm)
    if min(left, top) < -spare or right > width_mm + spare or bottom > height_mm + spare:
        raise ScanError(
            f"{place}: reaches to ({right:.1f}, {bottom:.1f}) mm, the scan has {width_mm:.1f} × {height_mm:.1f} mm.",
            to_fix='give full-resolution pixels of this scan, or say "unit": "um" or "mm" in the FeatureCollection',
        )
