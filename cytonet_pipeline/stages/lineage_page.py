"""The lineage page of an encoder: what goes on it, and where it lies. It can be made again at any time."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.markup import in_markdown
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.store import Store, current_inputs, read_record, read_table
from cytonet_pipeline.store.decisions import now
from cytonet_pipeline.store.pins import pin_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cytonet_pipeline.reporting.lineage_page import Box


# Roles as squares of a strip in Markdown, and in words.
_SQUARES = {"train": "🟩", "validation": "🟦", "seen_brains": "🟧", "unseen_brain": "🟪", "gap": "⬜"}
_CHANGED = "🟥"
_WORDS = {
    "train": "training",
    "validation": "validation",
    "seen_brains": "test",
    "unseen_brain": "unseen brain",
    "gap": "gap",
}
_LONGEST_STRIP = 120


def page_path(store: Store, encoder: str, version: str) -> Path:
    """Return where the lineage page of a version lies in the store."""
    return store.root / "lineage" / encoder / f"{version}.html"


def make_page(settings: Settings, encoder: str, version: str | None = None, to: Path | None = None) -> Path:
    """Write the lineage page of an encoder as things are now.

    Parameters
    ----------
    version : str, optional
        Default: the one in use.
    to : Path, optional
        Where to write it; default: its place in the store.

    Raises
    ------
    StoreError
        The encoder has not been trained, or has no such version.
    """
    from cytonet_pipeline.lineage import folder_of, happened_since, learning_of, sections_of
    from cytonet_pipeline.reporting.lineage_page import LineagePage, write_lineage_page

    store = store_of(settings)
    folder = folder_of(encoder, store, version)
    sections = sections_of(encoder, store, folder.name)
    notes = []
    try:
        sections = sections.assign(since=happened_since(sections, settings, store))
    except CytonetError as error:
        sections = sections.assign(since="")
        notes.append(f"What has happened to the sections since is not known: {error.what}")
    current = store.current_version(encoder)
    if folder.name != current:
        notes.append(f"This version is not in use; {current or 'none'} is.")
    pinned = pin_of(store, encoder)
    if pinned is not None:
        notes.append(pinned.text)
    page = LineagePage(
        title=f"{encoder}@{folder.name}",
        learned=_sentence(learning_of(encoder, store, folder.name)),
        made=f"As of {now()}. The answers are in the store; cytonet lineage gives them in a terminal.",
        notes=notes,
        steps=list(_steps(store, encoder, folder, sections)),
        sections=sections,
        thumbnails=_thumbnails(store, sorted(sections["brain"].unique())),
    )
    return write_lineage_page(to or page_path(store, encoder, folder.name), page)


def _steps(store: Store, encoder: str, folder: Path, sections: "pd.DataFrame") -> "Iterator[list[Box]]":
    from cytonet_pipeline.reporting.lineage_page import ROLES, Box

    record = read_record(folder / "training_set.json")
    block, version = record.get("config", {}).get("encoder", {}), folder.name
    counts = sections["role"].value_counts()
    by_role = [f"{counts[role]} {title}" for role, (title, _) in ROLES.items() if role in counts]
    yield [Box(f"{len(sections)} sections", [f"of {sections['brain'].nunique()} brains", *by_role])]
    created = str(record.get("created", ""))[:10]
    yield [
        Box(
            "training set",
            [version, f"decided on {created}", f"{int(sections['n_training_patches'].sum()):,} patches to learn from"],
        )
    ]
    own = [f"{block.get('method', '')}, {block.get('backbone', '')}", f"unseen brain {record.get('held_out')}"]
    given = record.get("init_from")
    before = []
    if given is not None:
        before = [Box("continues from", [str(given["encoder"] or given["path"]), str(given["version"] or "")])]
    yield [*before, Box(encoder, [*own, version])]
    yield [Box("features", _made(store.patch_embeddings(encoder, version)))]
    yield [
        Box("probes", _made(store.linear_probes(encoder, version), "/predictions.parquet")),
        Box("UMAP", _made(store.umap(encoder, version))),
    ]
    yield [
        Box("area maps", _made(store.area_maps(encoder, version), "_dseg.nii.gz")),
        Box("table of results", _rows_of_table(store, encoder, version)),
    ]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _made(folder: Path, parts: str = "") -> list[str]:
    """Return what a box says of an evaluation: nothing if it is not there."""
    if current_inputs(folder) is None:
        return []
    names = sorted(
        path.parent.name if parts.startswith("/") else path.name.partition("_")[0]
        for path in folder.glob(f"*{parts}")
        if parts
    )
    return names or ["computed"]


def _rows_of_table(store: Store, encoder: str, version: str) -> list[str]:
    path = store.metrics() / "metrics.parquet"
    if not path.exists():
        return []
    rows = read_table(path, "metrics", columns=["encoder", "version"])
    own = rows[(rows["encoder"] == encoder) & (rows["version"] == version)]
    return [f"{len(own)} rows of {len(rows)}"] if len(own) else []


def _thumbnails(store: Store, brains: "list[Any]") -> "dict[tuple[str, str], np.ndarray]":
    """Return the thumbnails that inventories left; a brain without some is shown without."""
    from cytonet_pipeline.histology import read_inventory

    found = {}
    for brain in brains:
        inventory = read_inventory(store.section_scans(str(brain)))
        if inventory is not None:
            found.update({(str(brain), sample): picture for sample, picture in inventory.pictures.items()})
    return found


def brains_of(settings: Settings, encoder: str, version: str) -> list[str]:
    """Return the brains that a version of an encoder knows."""
    path = store_of(settings).encoder(encoder, version) / "sections.parquet"
    return sorted(read_table(path, "training_sections", columns=["brain"])["brain"].unique())


def sections_text(settings: Settings, encoder: str, version: str) -> str:
    """Return the sections of an encoder as a Markdown table: a row per brain, with its sections as a strip."""
    from cytonet_pipeline.lineage import happened_since, sections_of

    store = store_of(settings)
    sections = sections_of(encoder, store, version)
    try:
        sections = sections.assign(since=happened_since(sections, settings, store))
    except CytonetError:
        sections = sections.assign(since="")  # The page says so.
    lines = ["| brain | training | validation | test | gap | changed since | in the order of the series |"]
    lines.append("|---|---|---|---|---|---|---|")
    for brain, rows in sections.groupby("brain", sort=True):
        ordered = rows.sort_values(["section", "sample"])
        counts = ordered["role"].value_counts()
        test = int(counts.get("seen_brains", 0) + counts.get("unseen_brain", 0))
        cells = [counts.get("train", 0), counts.get("validation", 0), test, counts.get("gap", 0)]
        changed = int((ordered["since"] != "").sum())
        strip = "".join(
            _CHANGED if since else _SQUARES[role] for role, since in zip(ordered["role"], ordered["since"], strict=True)
        )
        row = [in_markdown(str(brain)), *cells, changed, strip if len(ordered) <= _LONGEST_STRIP else "see the page"]
        lines.append("| " + " | ".join(map(str, row)) + " |")
    words = [f"{_SQUARES[role]} {title}" for role, title in _WORDS.items()]
    lines += ["", f"{', '.join(words)}, {_CHANGED} withdrawn, deleted or changed since"]
    return "\n".join(lines)


def models_text(settings: Settings, brain: str) -> str:
    """Return the trained encoders that know a brain as a Markdown table, with what they learned from it."""
    from cytonet_pipeline.lineage import sections_of, trained_versions

    store = store_of(settings)
    lines = []
    for encoder, version, _ in trained_versions(store):
        try:
            rows = sections_of(encoder, store, version, brain=brain)
        except CytonetError:
            # Damaged: what is wrong with an encoder must not end the ingestion of a brain.
            lines.append(f"| {in_markdown(encoder)} | {version} | | cannot be read | see: cytonet doctor --store |")
            continue
        if rows.empty:
            continue
        seen = rows[rows["n_training_patches"] > 0]
        counts = rows["role"].value_counts()
        roles = ", ".join(f"{counts[role]} {title}" for role, title in _WORDS.items() if role in counts)
        learned = f"{seen['n_training_patches'].sum()} patches of {len(seen)} sections" if len(seen) else "nothing"
        in_use = "yes" if version == store.current_version(encoder) else "no"
        lines.append(f"| {in_markdown(encoder)} | {version} | {in_use} | {roles} | {learned} |")
    if not lines:
        return "no trained encoder knows this brain"
    head = ["| encoder | version | in use | sections | learned from |", "|---|---|---|---|---|"]
    more = f"\n\nOf a section: `cytonet lineage section {brain}/SAMPLE`"
    return "\n".join([*head, *lines]) + more


def roles_text(sections: "pd.DataFrame") -> str:
    """List the sections of a training set as Markdown: a row per brain and role."""
    lines = ["| brain | role | sections |", "|---|---|---|"]
    for (brain, role), rows in sections.groupby(["brain", "role"], sort=True):
        samples = ", ".join(in_markdown(str(sample)) for sample in rows["sample"])
        lines.append(f"| {in_markdown(str(brain))} | {role} | {samples} |")
    return "\n".join(lines)
