"""Finding sections by their file names: scans in `micr`, masks and annotations in the derivatives.

A brain whose files have other names is read by its section table instead (`section_table`).
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cytonet_pipeline.dataset.brain import Section, written_path
from cytonet_pipeline.dataset.names import (
    CONTOUR_EXTENSIONS,
    PICTURE_EXTENSIONS,
    SCAN_EXTENSIONS,
    SCAN_FORMATS,
    ImageName,
    is_text,
    parse_any,
    parse_image,
    section_number,
    split_extension,
)

Kind = Literal["mask", "annotation"]
_Found = list[tuple[ImageName, Path]]
_LABEL_IMAGES = {
    "mask": ("segmentation", "cortex", "mask", SCAN_EXTENSIONS),
    "annotation": ("annotation", "areas", "dseg", (*SCAN_EXTENSIONS, *CONTOUR_EXTENSIONS)),
}
# What describes images and is none.
_TEXT_EXTENSIONS = (".json", ".tsv", ".csv", ".txt", ".xml", ".md", ".yaml", ".yml", ".log", ".html", ".pdf")
# BIDS: a photograph of the whole sample, beside the scans of its sections.
_PHOTOGRAPH = "photo"
# GeoJSON says what it is in its first members; metadata in JSON have other ones.
_HEAD_BYTES = 4096
NOT_READ = f"it is in no format that is read ({', '.join(SCAN_FORMATS)}); convert it, for instance to OME-TIFF"


@dataclass
class Sections:
    """The sections of a brain, what is wrong, and why files that were looked at are passed over.

    `mentioned` are files that are not used and stand in the reason of a section.
    """

    sections: list[Section] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    passed_over: dict[Path, str] = field(default_factory=dict)
    mentioned: set[Path] = field(default_factory=set)


def discover_sections(root: Path, brain: str, stain: str) -> Sections:
    """Find a brain's sections by file name; every sample occurs once."""
    found = Sections()
    by_sample, unread = _scans(root / f"sub-{brain}/micr", brain, found)
    for sample, images in by_sample.items():
        found.sections.append(_section(sample, images, root, brain, stain, found.passed_over))
    for name, path in unread:
        if name.sample in by_sample:
            found.passed_over[path] = f"sample {name.sample} has another scan, and {NOT_READ}"
        else:
            section = _named(name, path, root, brain)
            found.sections.append(reject(section, f"{path.name} cannot be opened: {NOT_READ}."))
            by_sample[name.sample] = [(name, path)]
    attach_label_images(found, root, brain, ("mask", "annotation"))
    return found


def attach_label_images(found: Sections, root: Path, brain: str, kinds: Iterable[Kind]) -> None:
    """Add to a brain's sections the masks and annotations that are found by name."""
    for kind in kinds:
        images = LabelImages(root, brain, kind)
        found.sections = [images.attach(section) for section in found.sections]
        found.mentioned |= images.mentioned
        found.passed_over |= images.without_scan({section.sample for section in found.sections})


def _scans(folder: Path, brain: str, found: Sections) -> tuple[dict[str, _Found], _Found]:
    """Return the scans of a folder by sample, and images of samples in formats that are not read."""
    by_sample: dict[str, _Found] = defaultdict(list)
    unread: _Found = []
    for path in entries(folder):
        name = parse_image(path.name) or parse_any(path.name)
        if not is_text(path.name):
            found.passed_over[path] = "its name is not UTF-8; rename it"
        elif name is None:
            if split_extension(path.name)[1]:
                found.passed_over[path] = "its name has no sub and sample; rename it, or name it in a section table"
        elif name.extension in _TEXT_EXTENSIONS:
            continue
        elif name.brain != brain:
            found.problems.append(f"{path.name} is another brain's, but lies in {folder}; move or rename it.")
            found.passed_over[path] = "it is another brain's"
        elif name.suffix == _PHOTOGRAPH:
            found.passed_over[path] = "a photo is no scan of a section"
        elif name.extension in SCAN_EXTENSIONS:
            by_sample[name.sample].append((name, path))
        else:
            unread.append((name, path))
    return by_sample, unread


class LabelImages:
    """The masks, or the annotations, of a brain by sample."""

    def __init__(self, root: Path, brain: str, kind: Kind) -> None:
        self.kind = kind
        self._by_sample: dict[str, _Found] = defaultdict(list)
        self._nearly: dict[str, dict[Path, str]] = defaultdict(dict)
        self.mentioned: set[Path] = set()
        for path in entries(root / f"derivatives/{_LABEL_IMAGES[kind][0]}/sub-{brain}/micr"):
            name = parse_any(path.name)
            if name is not None and name.brain == brain and is_text(path.name):
                self._sort(name, path)

    def _sort(self, name: ImageName, path: Path) -> None:
        """Take an image, or keep it with the reason why it is not taken although it looks meant."""
        _, desc, suffix, extensions = _LABEL_IMAGES[self.kind]
        if name.suffix.lower() != suffix or (name.desc or desc).lower() != desc:
            return
        if name.extension == ".json" and not _begins_as_geojson(path):
            return
        if name.extension not in extensions and name.extension in _TEXT_EXTENSIONS:
            return
        if (name.desc, name.suffix) != (desc, suffix):
            self._nearly[name.sample][path] = f"the name of a {self.kind} ends in _desc-{desc}_{suffix}"
        elif name.extension not in extensions:
            self._nearly[name.sample][path] = NOT_READ
        else:
            self._by_sample[name.sample].append((name, path))

    def attach(self, section: Section) -> Section:
        """Add its image to a section; reject the section if there are several candidates."""
        images = self._by_sample.get(section.sample, [])
        if len(images) > 1 and section.scan is not None:
            scan = parse_image(section.scan.name)
            images = [(name, p) for name, p in images if scan is not None and name.variant == scan.variant] or images
        section, images = self._without_previews(section, images)
        if len(images) > 1:
            self.mentioned |= {path for _, path in images}
            listed = ", ".join(path.name for _, path in images)
            return reject(section, f"several images could be its {self.kind} ({listed}); leave one.")
        if images:
            path = images[0][1]
            return replace(section, mask=path) if self.kind == "mask" else replace(section, annotation=path)
        for path, reason in self._nearly.get(section.sample, {}).items():
            self.mentioned.add(path)
            section = doubt(section, f"{path.name} is not taken as its {self.kind}: {reason}.")
        return section

    def _without_previews(self, section: Section, images: _Found) -> tuple[Section, _Found]:
        others = [image for image in images if image[0].extension not in PICTURE_EXTENSIONS]
        if not others or len(others) == len(images):
            return section, images
        previews = [path for image, path in images if image.extension in PICTURE_EXTENSIONS]
        self.mentioned |= set(previews)
        ignored = ", ".join(path.name for path in previews)
        used = ", ".join(path.name for _, path in others)
        return doubt(section, f"{ignored} lies beside {used}, which is used; leave the one that is meant."), others

    def without_scan(self, samples: set[str]) -> dict[Path, str]:
        """Return images whose sample has no scan, each with that reason."""
        missing = [found for sample, found in self._by_sample.items() if sample not in samples]
        return {path: f"there is no scan of sample {name.sample}" for found in missing for name, path in found}


def _begins_as_geojson(path: Path) -> bool:
    """Whether a JSON file begins with features, as annotations that were drawn do."""
    try:
        with path.open("rb") as stream:
            return b'"Feature' in stream.read(_HEAD_BYTES)
    except OSError:
        return False


def _named(name: ImageName, path: Path, root: Path, brain: str) -> Section:
    """Return the section of a scan as its file name describes it."""
    number = section_number(name.sample) or 0
    return Section(brain, name.sample, number, path, stain=name.stain, path=written_path(path, root))


def _section(sample: str, images: _Found, root: Path, brain: str, stain: str, passed_over: dict[Path, str]) -> Section:
    """Choose a sample's scan: the one of the configured stain, or one whose name gives no stain."""
    images = sorted(images, key=lambda image: image[1].name)
    stained = [image for image in images if is_stain(image[0].stain, stain)]
    passed_over |= {path: f"the configured stain is {stain}" for _, path in images if stained}
    fitting = [image for image in stained if image[0].extension not in PICTURE_EXTENSIONS] or stained
    passed_over |= {path: f"sample {sample} has a scan that is no plain picture" for _, path in stained}
    for _, path in fitting:
        del passed_over[path]
    name, path = (fitting or images)[0]
    section = _named(name, path, root, brain)
    if not fitting:
        return reject(section, other_stain(name.stain, stain))
    if len(fitting) > 1:
        listed = ", ".join(path.name for _, path in fitting)
        return reject(section, f"several scans of the sample ({listed}); say in a section table which one counts.")
    if section_number(sample) is None:
        return reject(section, f"the sample name {sample} has no section number; give one in a section table.")
    return section


def is_stain(stain: str | None, configured: str) -> bool:
    """Tell whether a scan's stain is the configured one or is not given."""
    return stain is None or stain.lower() == configured.lower()


def other_stain(stain: str | None, configured: str) -> str:
    """Return the reason for rejecting a section of another stain."""
    return (
        f"its stain is {stain}, the configured one is {configured}; "
        "change `stain` in the experiments file if it is meant."
    )


def entries(folder: Path) -> Iterator[Path]:
    """Iterate over the entries of a folder by name, without hidden ones; none if it cannot be listed."""
    return (folder / name for name in entry_names(folder))


def entry_names(folder: Path) -> list[str]:
    """List the names of what `entries` iterates over."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    # Other programs write to dot files until they are complete.
    return [name for name in names if not name.startswith(".")]


def doubt(section: Section, what: str) -> Section:
    """Return the section with one more thing that a person should check, unless it is left out already."""
    return section if section.status != "ok" else replace(section, reason=f"{section.reason} {what}".strip())


def reject(section: Section, reason: str) -> Section:
    """Return the section as rejected, with its first fault; a withdrawn one stays withdrawn."""
    return section if section.status != "ok" else replace(section, status="rejected", reason=reason)
