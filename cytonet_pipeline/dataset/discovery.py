"""Finding sections by their file names: scans in `micr`, masks and annotations in the derivatives.

A brain whose files have other names is read by its section table instead (`section_table`).
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cytonet_pipeline.dataset.brain import Section, written_path
from cytonet_pipeline.dataset.names import (
    CONTOUR_EXTENSION,
    SCAN_EXTENSIONS,
    ImageName,
    parse_image,
    section_number,
    split_extension,
)

_Found = list[tuple[ImageName, Path]]
_LABEL_IMAGES = {
    "mask": ("segmentation", "cortex", "mask", SCAN_EXTENSIONS),
    "annotation": ("annotation", "areas", "dseg", (*SCAN_EXTENSIONS, CONTOUR_EXTENSION)),
}


@dataclass
class Sections:
    """The sections of a brain, and what was skipped or is wrong."""

    sections: list[Section] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def discover_sections(root: Path, brain: str, stain: str) -> Sections:
    """Find a brain's sections by file name; every sample occurs once."""
    found = Sections()
    folder = root / f"sub-{brain}/micr"
    by_sample: dict[str, _Found] = defaultdict(list)
    for path in _entries(folder):
        name = parse_image(path.name)
        if name is not None and name.brain != brain:
            found.problems.append(f"{path.name} is another brain's, but lies in {folder}; move or rename it.")
        elif name is not None:
            by_sample[name.sample].append((name, path))
        elif split_extension(path.name)[1]:
            found.notes.append(f"{path.name} is passed over: its name has no sub and sample; rename it to take it in.")
    masks = LabelImages(root, brain, "mask")
    annotations = LabelImages(root, brain, "annotation")
    for sample, images in by_sample.items():
        section = _section(sample, images, root, brain, stain, found.notes)
        found.sections.append(annotations.attach(masks.attach(section)))
    for images_of in (masks, annotations):
        found.notes += images_of.without_scan(set(by_sample))
    return found


class LabelImages:
    """The masks, or the annotations, of a brain by sample."""

    def __init__(self, root: Path, brain: str, kind: Literal["mask", "annotation"]) -> None:
        self.kind = kind
        derivative, desc, suffix, extensions = _LABEL_IMAGES[kind]
        self._by_sample: dict[str, _Found] = defaultdict(list)
        for path in _entries(root / f"derivatives/{derivative}/sub-{brain}/micr"):
            name = parse_image(path.name, extensions)
            if name is not None and (name.brain, name.desc, name.suffix) == (brain, desc, suffix):
                self._by_sample[name.sample].append((name, path))

    def attach(self, section: Section) -> Section:
        """Add its image to a section; reject the section if there are several candidates."""
        images = self._by_sample.get(section.sample, [])
        if len(images) > 1 and section.scan is not None:
            scan = parse_image(section.scan.name)
            images = [(name, p) for name, p in images if scan is not None and name.variant == scan.variant] or images
        if len(images) > 1:
            listed = ", ".join(path.name for _, path in images)
            return reject(section, f"several images could be its {self.kind} ({listed}); leave one.")
        if not images:
            return section
        path = images[0][1]
        return replace(section, mask=path) if self.kind == "mask" else replace(section, annotation=path)

    def without_scan(self, samples: set[str]) -> list[str]:
        """Return notes on images whose sample has no scan."""
        return [
            f"{path.name} is passed over: there is no scan of sample {sample}."
            for sample in sorted(set(self._by_sample) - samples)
            for _, path in self._by_sample[sample]
        ]


def _section(sample: str, images: _Found, root: Path, brain: str, stain: str, notes: list[str]) -> Section:
    """Choose a sample's scan: the one of the configured stain, or one whose name gives no stain."""
    images = sorted(images, key=lambda image: image[1].name)
    fitting = [image for image in images if is_stain(image[0].stain, stain)]
    for _, path in images if fitting else ():
        if path not in [p for _, p in fitting]:
            notes.append(f"{path.name} is passed over: the configured stain is {stain}.")
    name, path = (fitting or images)[0]
    section = Section(
        brain=brain,
        sample=sample,
        section=section_number(sample) or 0,
        scan=path,
        stain=name.stain,
        path=written_path(path, root),
    )
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


def _entries(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return iter(())
    # Other programs write to dot files until they are complete.
    return (folder / name for name in names if not name.startswith("."))


def reject(section: Section, reason: str) -> Section:
    """Return the section as rejected, with its first fault; a withdrawn one stays withdrawn."""
    return section if section.status != "ok" else replace(section, status="rejected", reason=reason)
