"""The images of an OME-Zarr, and which of them is the scan.

A folder is an image itself (its metadata have `multiscales`), or bioformats2raw has put each image of a file into a
group of its own, `0`, `1` and so on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytonet_pipeline.dataset import Pick
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.choice import Picture, choose, is_accessory_by_title, unknown_pick
from cytonet_pipeline.histology.formats.levels import Level
from cytonet_pipeline.histology.formats.ome_zarr.array import read_array, read_json

METADATA = ("zarr.json", ".zattrs")
_MOST_IMAGES = 256


@dataclass(frozen=True, eq=False)
class ZarrImage:
    """An image: the group that holds it, its `multiscales` entry, and the file and attributes that it stands in."""

    number: int
    group: Path
    multiscales: Mapping[str, Any]
    file: str
    attributes: Mapping[str, Any]

    def channels(self) -> tuple[list[str], list[str]]:
        """Return names and display colours of the channels, as `omero` has them."""
        omero = self.attributes.get("omero")
        channels = omero.get("channels") if isinstance(omero, Mapping) else None
        known = [channel for channel in channels or () if isinstance(channel, Mapping)]
        return (
            [str(channel.get("label", "")) for channel in known],
            [str(channel["color"])[:6] for channel in known if "color" in channel],
        )

    def picture(self, largest_px: int = 0) -> Picture:
        """Describe it as one of several, of which the largest has `largest_px` pixels."""
        shape = read_array(self.group / str(self.multiscales["datasets"][0]["path"])).shape
        scale, unit = scale_of(self.multiscales, len(shape)), axes_of(self.multiscales)[-1][1]
        title, area_px = str(self.multiscales.get("name", "")), shape[-2] * shape[-1]
        pixel_um = scale[-1] if scale and unit else None
        accessory = is_accessory_by_title(title, area_px, largest_px)
        return Picture(f"series {self.number}", shape[-2], shape[-1], title, pixel_um, accessory)

    def reading(self, levels: tuple[Level, ...]) -> tuple[str, ...]:
        """Return what is read otherwise than by releases up to 0.2.1."""
        changes = [f"series {self.number}"] if self.number > 0 else []
        changes += [
            f"1/{level.factor} has {level.width} px"
            for level in levels[1:]
            if level.factor != round(levels[0].width / level.width)
        ]
        return tuple(changes)


def chosen_image(path: Path, pick: Pick) -> tuple[ZarrImage, tuple[str, ...]]:
    """Return the image that is the scan, and remarks on those that are passed over.

    Raises
    ------
    ScanError
        There is none, or several could be the scan.
    """
    images = list(_images(path))
    if not images:
        raise ScanError(
            f"{path}: is a folder, but no OME-Zarr.",
            looked_for=("multiscales in zarr.json (NGFF 0.5)", "multiscales in .zattrs (NGFF 0.4)"),
            to_fix="copy it again from its source, or name another scan in the section table",
        )
    if pick.page is not None:
        raise unknown_pick(path, str(pick), [image.picture() for image in images])
    if pick.series is not None:
        numbered = {image.number: image for image in images}
        if pick.series not in numbered:
            raise unknown_pick(path, str(pick), [image.picture() for image in images])
        return numbered[pick.series], ()
    if len(images) == 1:
        return images[0], ()
    largest_px = max(image.picture().area_px for image in images)
    number, doubts = choose([image.picture(largest_px) for image in images], path, "series")
    return images[number], tuple(doubts)


def axes_of(image: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Return names and units of the axes of a `multiscales` entry.

    Raises
    ------
    ScanError
        Such axes are not read.
    """
    axes = [(a, None) if isinstance(a, str) else (a["name"], a.get("unit")) for a in image.get("axes", "tczyx")]
    names = "".join(name for name, _ in axes)
    if not names.endswith("yx") or len(set(names)) != len(axes) or not set(names) <= set("tczyx"):
        raise ScanError(f"its axes {names!s:.20} are not read.", to_fix="export it with axes t, c, z, y, x")
    return axes


def scale_of(image: Mapping[str, Any], axes: int) -> list[float] | None:
    """Return the edges of a full-resolution pixel along the axes, in their units; None if none are given."""
    changes = [*image["datasets"][0].get("coordinateTransformations", ()), *image.get("coordinateTransformations", ())]
    scales = [change["scale"] for change in changes if change.get("type") == "scale" and "scale" in change]
    sizes = [1.0] * axes
    for scale in scales:
        sizes = [size * float(by) for size, by in zip(sizes, scale, strict=True)]
    return sizes if scales else None


def _images(path: Path) -> Iterator[ZarrImage]:
    own = list(_in_group(path, 0))
    if own:
        yield from own
        return
    for number in range(_MOST_IMAGES):
        group = path / str(number)
        if not group.is_dir():
            return
        # Several entries of one group are ways to show one image; a series is a group.
        yield from list(_in_group(group, number))[:1]


def _in_group(group: Path, first: int) -> Iterator[ZarrImage]:
    """Yield the images that a group's metadata describe, numbered from `first` on."""
    three = read_json(group / METADATA[0]).get("attributes", {}).get("ome", {})
    for file, attributes in zip(METADATA, (three, read_json(group / METADATA[1])), strict=True):
        if attributes.get("plate"):
            raise ScanError(f"{group}: is a plate of wells, not a scan.", to_fix="name one of its images as the scan")
        entries = attributes.get("multiscales")
        if entries:
            for number, image in enumerate(entries, start=first):
                yield ZarrImage(number, group, image, file, attributes)
            return
