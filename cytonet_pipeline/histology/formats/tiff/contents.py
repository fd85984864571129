"""Which page of a TIFF is the scan, and which pages are levels of its pyramid.

OME metadata decide where the file has them; NewSubfileType, descriptions and sizes where it has not. Where several
images could be the section, the file is refused with what it holds, and a section table picks one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytonet_pipeline.dataset import Pick
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.channels import COLOURS, require_colours
from cytonet_pipeline.histology.formats.choice import Picture, choose, several, unknown_pick
from cytonet_pipeline.histology.formats.levels import whole_factor
from cytonet_pipeline.histology.formats.tiff.directory import Directory
from cytonet_pipeline.histology.formats.tiff.ome import OmeImage, read_ome
from cytonet_pipeline.histology.formats.tiff.pages import Page, read_pages

# Pixel sizes of a reduced copy may be rounded.
_SCALED = 0.02


@dataclass(frozen=True, eq=False)
class Contents:
    """What of a TIFF is read.

    Attributes
    ----------
    planes : tuple of Page
        The page of the full resolution, or the three of its colours.
    ome : OmeImage or None
        The image that the page belongs to.
    others : tuple of Page
        All other pages of the chain.
    may_be_levels : tuple of Page
        Those that may be levels of the pyramid, by what the file says.
    doubts : tuple of str
    """

    planes: tuple[Page, ...]
    ome: OmeImage | None
    others: tuple[Page, ...]
    may_be_levels: tuple[Page, ...]
    doubts: tuple[str, ...]


def read_contents(first: Directory, pick: Pick) -> Contents:
    """Find the scan in a TIFF.

    Raises
    ------
    ScanError
        The file does not say for sure which image it is, it has several planes, or the picked one is not there.
    """
    path = first.state.path
    pages, doubts = read_pages(first)
    by_number = {page.number: page for page in pages}
    series, remarks = _series(pages, by_number)
    doubts += remarks
    ome, remarks = None, []
    if pick.page is not None:
        if pick.page not in by_number:
            raise unknown_pick(path, str(pick), [page.picture(accessory=False) for page in pages])
        numbers: Sequence[int] = (pick.page,)
        ome = next((image for image in series if pick.page in image.pages), None)
    elif series or pick.series is not None:
        ome, remarks = _chosen_series(series, by_number, pick, path)
        numbers = _plane_numbers(ome, path)
    else:
        page, remarks = _chosen_page(pages, path)
        numbers = (page.number,)
    planes = tuple(by_number[number] for number in numbers)
    others = tuple(page for page in pages if page not in planes)
    of_series = {number for image in series for number in image.pages}
    levels = _levels_among([page for page in others if page.number not in of_series], planes[0], _largest(pages))
    return Contents(planes, ome, others, tuple(levels), (*doubts, *remarks))


def _largest(pages: Sequence[Page]) -> int:
    return max(page.area_px for page in pages)


def _series(pages: Sequence[Page], by_number: Mapping[int, Page]) -> tuple[list[OmeImage], list[str]]:
    """Return the OME images whose pages are in the file; none, and why, if the metadata are another file's."""
    images = read_ome(pages[0].page.description)
    series = [image for image in images if image.pages and all(page in by_number for page in image.pages[:COLOURS])]
    for image in series:
        page = by_number[image.pages[0]].page
        if (image.width, image.height) != (page.imagewidth, page.imagelength):
            return [], [
                f"its OME metadata describe {image.width} × {image.height} px, the page has {page.imagewidth} × "
                f"{page.imagelength}: they may be those of the file that it was made from"
            ]
    return series, []


def _chosen_series(
    series: Sequence[OmeImage], by_number: Mapping[int, Page], pick: Pick, path: Path
) -> tuple[OmeImage, list[str]]:
    largest = max(series, key=lambda image: image.width * image.height, default=None)
    pictures = [
        Picture(
            f"series {image.number}",
            image.height,
            image.width,
            image.title,
            image.pixel_um[0] if image.pixel_um else None,
            image is not largest and _is_accessory(image, largest, by_number[image.pages[0]]),
        )
        for image in series
    ]
    if pick.series is not None:
        numbered = {image.number: image for image in series}
        if pick.series not in numbered:
            raise unknown_pick(path, str(pick), pictures)
        return numbered[pick.series], []
    number, remarks = choose(pictures, path, "series")
    return series[number], remarks


def _is_accessory(image: OmeImage, largest: OmeImage | None, page: Page) -> bool:
    """Whether an image is a label, a macro photograph, a thumbnail, or the largest one reduced."""
    assert largest is not None
    if page.is_reduced or page.is_accessory(largest.width * largest.height, image.title):
        return True
    factor = whole_factor((largest.height, largest.width), (image.height, image.width))
    if not factor or largest.pixel_um is None or image.pixel_um is None:
        return False
    return abs(image.pixel_um[0] / largest.pixel_um[0] / factor - 1) < _SCALED


def _plane_numbers(image: OmeImage, path: Path) -> tuple[int, ...]:
    """Return the pages of an image: one, or three that are its colours.

    Raises
    ------
    ScanError
        It has planes at several depths or times, or other channels.
    """
    depth, times, channels = image.planes
    if depth > 1 or times > 1:
        what = f"{depth} planes in depth" if depth > 1 else f"{times} times"
        raise ScanError(
            f"{path}: series {image.number} has {what}; which of them shows the section?",
            to_fix="give the page of the right plane in the column page of a section table, or export one plane (of "
            "a focus stack, its projection)",
        )
    require_colours(channels, image.names, image.shades, path)
    if len(image.pages) < channels:
        raise ScanError(
            f"{path}: series {image.number} has its channels in several files.", to_fix="export the scan as one file"
        )
    return image.pages[:channels]


def _chosen_page(pages: Sequence[Page], path: Path) -> tuple[Page, list[str]]:
    """Choose among pages without OME metadata: the largest image, whose reduced copies the others may be."""
    _refuse_imagej_stack(pages[0], path)
    largest = _largest(pages)
    own = [page for page in pages if not page.is_accessory(largest)]
    full = [page for page in own if not page.is_reduced] or own or list(pages)
    main = max(full, key=lambda page: page.area_px)
    larger = [page for page in own if page.area_px > main.area_px]
    if larger:
        raise several(path, [page.picture(accessory=False) for page in (main, *larger)], "page")
    levels = [page for page in _levels_among(pages, main, largest) if main.reduction(page.page)]
    known = [page for page in pages if page.is_accessory(largest) or page.is_reduced or page in levels]
    pictures = [page.picture(accessory=page in known and page is not main) for page in pages]
    number, remarks = choose(pictures, path, "page")
    return pages[number], remarks


def _refuse_imagej_stack(first: Page, path: Path) -> None:
    """Refuse a stack of ImageJ: beyond 4 GiB it has a single page for all its planes."""
    lines = first.text.split("\n") if first.text.startswith("ImageJ=") else []
    counts = dict(line.split("=", 1) for line in lines if "=" in line)
    images = counts.get("images", "1").strip()
    if images.isdigit() and int(images) > 1:
        counted = ", ".join(f"{counts[key].strip()} {key}" for key in ("channels", "slices", "frames") if key in counts)
        raise ScanError(
            f"{path}: is an ImageJ stack of {images} images ({counted or 'slices'}); which of them shows the section?",
            to_fix="give its page in the column page of a section table, or save the one image alone",
        )


def _levels_among(pages: Sequence[Page], main: Page, largest: int) -> list[Page]:
    """Return the pages of the chain that may be levels of `main`.

    Where some page of the right size says that it is a reduced copy, those that do not are pictures of their own.
    """
    free = [page for page in pages if page is not main and not page.is_accessory(largest)]
    return [page for page in free if page.is_reduced and main.reduction(page.page)] or free
