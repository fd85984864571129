"""Files that lie where scans, masks, annotations and transforms lie and are not used, each with the reason.

Nobody notices a file that is missing from a list. Sections and brains have their own reasons; here are the rest.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from cytonet_pipeline.dataset.discovery import entries, entry_names
from cytonet_pipeline.dataset.names import SCAN_EXTENSIONS, label_fault, parse_any, split_extension

# More files of one folder and one reason are counted, and the first of them named.
_MOST_NAMED = 4
_ENDINGS = {"segmentation": "_desc-cortex_mask", "annotation": "_desc-areas_dseg"}
_ELSEWHERE = {
    "registration": "no table, chain or name says what it is for",
    "surfaces": "the name of a surface is sub-…_hemi-{L,R}_{pial,white,inflated}.surf.gii",
    "sections": "only the section table and the table of withdrawn sections are read here",
}
# What every folder of a BIDS data set may have.
_OF_BIDS = ("dataset_description.json", "readme", "changes", "license", "citation")
_TABLES_OF_BIDS = ("_scans.tsv", "_sessions.tsv")
# Data of other kinds that a BIDS data set may hold of the same brain.
_OTHER_DATATYPES = frozenset(
    "anat beh dwi eeg emg fmap func ieeg meg motion mrs nirs perf pet".split()  # noqa: SIM905
)


def files_passed_over(root: Path, brain: str, used: Iterable[Path], reasons: Mapping[Path, str]) -> list[str]:
    """Describe the files of a brain that are not used.

    Parameters
    ----------
    used : iterable of Path
        What is read, or has a reason of its own.
    reasons : mapping
        Why files were passed over, as far as it is known already.
    """
    # As text: comparing paths takes four times as long, and a brain of 7,000 sections has 20,000 of them.
    texts = {os.fspath(path) for path in used}
    # A folder is used if a file in it is.
    parents = {Path(parent) for parent in {os.path.dirname(text) for text in texts}}
    texts |= {os.fspath(folder) for parent in parents for folder in (parent, *parent.parents)}
    left = [
        (folder / name, folder)
        for folder in _folders(root, brain)
        for name in entry_names(folder)
        if name != "micr" and f"{folder}{os.sep}{name}" not in texts
    ]
    found = {path: reasons.get(path) or _reason(path, folder) for path, folder in left}
    return described({path: reason for path, reason in found.items() if reason}, root)


def names_passed_over(root: Path, listed: Iterable[str]) -> list[str]:
    """Describe rows of `participants.tsv` and folders that cannot be brains, by their names.

    Parameters
    ----------
    listed : iterable of str
        Names in `participants.tsv`.
    """
    rows = {f"participants.tsv, row {_short(name)}": label_fault(name) for name in listed}
    folders = {
        f"folder {_short(path.name)}": label_fault(path.name.removeprefix("sub-"))
        for path in sorted(root.glob("sub-*"))
        if path.is_dir()
    }
    return [f"{what} is passed over: the name {fault}." for what, fault in (rows | folders).items() if fault]


def strays(root: Path, brains: Collection[str]) -> list[str]:
    """Describe files beside the folders of brains, and folders in the derivatives that belong to no brain."""
    found = {path: "it is no folder of a brain" for path in root.glob("sub-*") if not path.is_dir()}
    for derivative in (*_ENDINGS, *_ELSEWHERE):
        for path in entries(root / "derivatives" / derivative):
            if not path.name.startswith("sub-"):
                if not path.is_dir() and not path.name.lower().startswith((*_OF_BIDS, "desc-")):
                    found[path] = "it lies in no folder of a brain"
            elif path.name.removeprefix("sub-") not in brains:
                found[path] = f"there is no brain {_short(path.name.removeprefix('sub-'))}"
    return described(found, root)


def described(reasons: Mapping[Path, str], root: Path) -> list[str]:
    """Put files and their reasons into sentences; many of one folder and reason into one."""
    groups: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in sorted(reasons):
        groups[path.parent, reasons[path]].append(path)
    sentences = []
    for (folder, reason), paths in groups.items():
        if len(paths) <= _MOST_NAMED:
            sentences += [f"{_written(path, root)} is passed over: {reason}." for path in paths]
        else:
            named = ", ".join(_printable(path.name) for path in paths[:_MOST_NAMED])
            sentences.append(f"{len(paths)} files in {_written(folder, root)} are passed over ({named} …): {reason}.")
    return sentences


def _folders(root: Path, brain: str) -> list[Path]:
    """List the folders in which files of a brain lie."""
    derived = [root / "derivatives" / name / f"sub-{brain}" for name in (*_ENDINGS, *_ELSEWHERE)]
    own = root / f"sub-{brain}"
    return [own, own / "micr", *derived, *(folder / "micr" for folder in derived[: len(_ENDINGS)])]


def _reason(path: Path, folder: Path) -> str:
    """Return why a file or folder is not used; empty if nobody would expect it to be."""
    brain_folder = folder.parent if folder.name == "micr" else folder
    derivative = brain_folder.parent.name if brain_folder.parent.parent.name == "derivatives" else ""
    if derivative == "sections" and path.name.endswith("_withdrawn.tsv"):
        return ""
    if derivative in _ELSEWHERE:
        return _ELSEWHERE[derivative]
    if folder.name != "micr":
        return _outside_micr(path, folder)
    if path.name.lower().endswith(".json"):
        return (
            "it describes no scan that is read" if not derivative else "it has no features, and metadata are not read"
        )
    if derivative:
        return f"its name does not end in {_ENDINGS[derivative]}, with an extension that is read"
    if split_extension(path.name)[1] or parse_any(path.name):
        return "the section table, which lists all sections, does not name it"
    return f"it is no scan by its name, sub-…_sample-…, with one of {' '.join(SCAN_EXTENSIONS)}"


def _outside_micr(path: Path, folder: Path) -> str:
    if path.name.lower().endswith(_TABLES_OF_BIDS):
        return ""
    if path.name.lower().endswith(".json"):
        return "it describes no scan that is read"
    if not path.is_dir() or split_extension(path.name)[1]:
        return f"images are looked for in {folder.name}/micr"
    if path.name in _OTHER_DATATYPES:
        return ""
    return f"images are looked for in {folder.name}/micr; a section table may name scans anywhere"


def _written(path: Path, root: Path) -> str:
    text = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    return _printable(text)


def _printable(text: str) -> str:
    """Return a name with line breaks and bytes that are no UTF-8 spelled out."""
    return text if text.isprintable() else repr(text)


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:40]}…")
