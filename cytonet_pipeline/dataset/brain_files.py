"""Finding the files that lead from a brain to the reference and back, and the files that these name in turn.

Files are only found here; `registration` reads them. A JSON chain is read just far enough to know its members.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cytonet_pipeline.dataset.files import find_named_file, read_json
from cytonet_pipeline.errors import DataFault

REFERENCE = "MNIColin27"
# In order of preference if there are several files.
EXTENSIONS = (".h5", ".mat", ".tfm", ".txt", ".nii.gz", ".nii", ".json")
_SURFACES = ("pial", "white", "inflated")


@dataclass
class BrainFiles:
    """The files that belong to a brain as a whole."""

    to_reference: Path | None = None
    from_reference: Path | None = None
    surfaces: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)


def find_brain_files(root: Path, brain: str, roots: Sequence[Path]) -> BrainFiles:
    """Find a brain's transforms and surfaces, and report what is missing or doubtful."""
    files = BrainFiles()
    stem = root / f"derivatives/registration/sub-{brain}/sub-{brain}"
    files.to_reference = _find(f"{stem}_from-brain_to-{REFERENCE}_mode-points_xfm", files)
    files.from_reference = _find(f"{stem}_from-{REFERENCE}_to-brain_mode-points_xfm", files)
    if files.to_reference is None:
        name = f"sub-{brain}_from-brain_to-{REFERENCE}_mode-points_xfm"
        files.problems.append(
            f"no transform to {REFERENCE}{_of_other_formats(stem.parent, name)}; put {name} with one of the "
            f"extensions {' '.join(EXTENSIONS)} into derivatives/registration/sub-{brain}."
        )
    for path in (files.to_reference, files.from_reference):
        if path is not None:
            files.sources.append(path)
            _follow(path, roots, files)
    folder = root / f"derivatives/surfaces/sub-{brain}"
    for hemisphere in "LR":
        for kind in _SURFACES:
            path = folder / f"sub-{brain}_hemi-{hemisphere}_{kind}.surf.gii"
            if path.is_file():
                files.surfaces[f"{hemisphere}_{kind}"] = path
                files.sources.append(path)
    return files


def transform_candidates(root: Path, brain: str) -> list[Path]:
    """Return every path at which a transform of a brain is looked for, whether or not it exists."""
    folder = root / f"derivatives/registration/sub-{brain}"
    directions = (f"from-brain_to-{REFERENCE}", f"from-{REFERENCE}_to-brain")
    return [folder / f"sub-{brain}_{way}_mode-points_xfm{ending}" for way in directions for ending in EXTENSIONS]


def follow_warp(path: Path, roots: Sequence[Path]) -> BrainFiles:
    """Find the files that an in-plane warp consists of, itself included."""
    files = BrainFiles(sources=[path])
    _follow(path, roots, files)
    return files


def _find(stem: str, files: BrainFiles) -> Path | None:
    present = [path for extension in EXTENSIONS if (path := Path(stem + extension)).is_file()]
    if len(present) > 1:
        others = ", ".join(path.name for path in present[1:])
        files.problems.append(
            f"{present[0].name} is used, but beside it lies {others}; leave only the one that is meant."
        )
    return present[0] if present else None


def _of_other_formats(folder: Path, name: str) -> str:
    """Name the files that lie where a transform is looked for but have none of the extensions."""
    present = sorted(p.name for p in folder.glob(f"{name}.*") if p.is_file()) if folder.is_dir() else []
    return f" (of the format of {', '.join(present)} none is read)" if present else ""


def _follow(path: Path, roots: Sequence[Path], files: BrainFiles) -> None:
    """Collect the members of a JSON chain, and their members; a chain that names itself comes to an end."""
    if path.suffix != ".json":
        return
    try:
        members = read_json(path).get("transforms")
        if not isinstance(members, list) or not members:
            raise DataFault(f'{path.name} has no list of transforms; write {{"transforms": [{{"path": …}}]}}.')
        for member in members:
            _follow_member(member, path, roots, files)
    except DataFault as fault:
        files.problems.append(fault.what)


def _follow_member(member: object, chain: Path, roots: Sequence[Path], files: BrainFiles) -> None:
    text = member.get("path") if isinstance(member, dict) else None
    if not isinstance(text, str):
        raise DataFault(f'{chain.name} has a member without a path; write {{"path": …, "invert": false}}.')
    missing = f"{chain.name} names {text}, which is not there; put it there or correct the path."
    path = find_named_file(text, chain.parent, roots, named_in=chain.name, if_missing=missing)
    if path not in files.sources:
        files.sources.append(path)
        _follow(path, roots, files)
