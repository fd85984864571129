"""Names of brains, sections and files, and the entities of BIDS file names.

Nothing here touches the disk. Inside the pipeline a brain is `B20` and a section `1786`, without prefix.
"""

import re
from dataclasses import dataclass
from pathlib import Path

# Formats of scans by their extensions; `histology.formats` has a reader for each.
SCAN_FORMATS = {
    "OME-Zarr": (".ome.zarr",),
    "TIFF": (".ome.tiff", ".ome.tif", ".ome.btf", ".tiff", ".tif", ".btf", ".tf8", ".tf2", ".svs"),
    "PNG and JPEG": (".jpeg", ".jpg", ".png"),
}
# Longest first: `x.ome.tif` is not a `.tif` called `x.ome`.
SCAN_EXTENSIONS = tuple(sorted((e for extensions in SCAN_FORMATS.values() for e in extensions), key=len, reverse=True))
# Plain pictures also lie beside a scan as its preview: they are taken where nothing else is.
PICTURE_EXTENSIONS = SCAN_FORMATS["PNG and JPEG"]
CONTOUR_EXTENSIONS = (".geojson", ".json")
# Two of them, and what else stands in the name of a file, fit into the 255 bytes that a file system allows.
LONGEST_LABEL = 100
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class ImageName:
    """The entities of a BIDS microscopy file name that the pipeline reads, with its suffix and extension."""

    brain: str
    sample: str
    suffix: str
    extension: str
    stain: str | None = None
    acq: str | None = None
    run: str | None = None
    chunk: str | None = None
    desc: str | None = None

    @property
    def variant(self) -> tuple[str | None, str | None, str | None]:
        """What distinguishes several images of one sample: acq, run, chunk."""
        return self.acq, self.run, self.chunk


def is_label(name: str) -> bool:
    """Tell whether a brain or section of this name can be used in paths and commands."""
    return not label_fault(name)


def label_fault(name: str) -> str:
    """Describe why a name cannot be that of a brain or section, with the remedy; empty if it can."""
    if len(name) > LONGEST_LABEL:
        return f"has {len(name)} characters; use at most {LONGEST_LABEL}"
    if _LABEL.fullmatch(name) is None:
        return "has other characters than letters, digits and . _ + -, or begins with one of the last four; rename it"
    return ""


def is_text(name: str) -> bool:
    """Tell whether the bytes of a file's name are UTF-8: others cannot be written into a table or a message."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def split_extension(name: str, extensions: tuple[str, ...] = SCAN_EXTENSIONS) -> tuple[str, str]:
    """Split a file name before a known extension; the extension is empty if it has none of them."""
    lowered = name.lower()
    if lowered.endswith(extensions):
        for extension in extensions:
            if lowered.endswith(extension):
                return name[: -len(extension)], extension
    return name, ""


def parse_image(name: str, extensions: tuple[str, ...] = SCAN_EXTENSIONS) -> ImageName | None:
    """Parse the entities of a file name; None if it is not the name of a sample's image."""
    stem, extension = split_extension(name, extensions)
    if not extension:
        return None
    *pairs, suffix = stem.split("_")
    entities = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    if not suffix or len(entities) != len(pairs):
        return None
    if not is_label(entities.get("sub", "")) or not is_label(entities.get("sample", "")):
        return None
    optional = {key: entities.get(key) for key in ("stain", "acq", "run", "chunk", "desc")}
    return ImageName(entities["sub"], entities["sample"], suffix, extension, **optional)


def parse_any(name: str) -> ImageName | None:
    """Parse the entities of a file name with any extension, all that follows the first dot after its suffix."""
    dot = name.rpartition("_")[2].find(".")
    extension = name[len(name) - len(name.rpartition("_")[2]) + dot :] if dot > 0 else ""
    return parse_image(name, (extension.lower(),)) if extension else None


def section_number(sample: str) -> int | None:
    """Return the last number in a sample's name; None if there is none, or if it is too large for a section number."""
    digits = re.findall(r"\d+", sample)
    return int(digits[-1]) if digits and int(digits[-1]) <= _LARGEST_INT32 else None


def sidecar_of(scan: Path) -> Path:
    """Return the path of the JSON that describes a scan: the scan's name with another extension."""
    stem, extension = split_extension(scan.name)
    return scan.with_name(f"{stem}.json") if extension else scan.with_suffix(".json")
