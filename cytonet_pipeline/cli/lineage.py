"""Commands on lineage: which sections made this model, and which models saw this section."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cytonet_pipeline.cli.app import AsJson, app
from cytonet_pipeline.cli.console import err, out, show
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from cytonet_pipeline.dataset import Dataset
    from cytonet_pipeline.evaluation.maps.map_origin import MapOfAreas, VoxelOrigin
    from cytonet_pipeline.store import Store

_MOST_NAMED = 8
_PROV_KINDS = {"entity": "entities", "activity": "activities", "agent": "agents"}

lineage_app = typer.Typer(
    help="Which sections made this model, and which models saw this section.", rich_markup_mode=None
)
app.add_typer(lineage_app, name="lineage")


@lineage_app.command("encoder")
def lineage_encoder(
    name: Annotated[str, typer.Argument(help="Encoder, or encoder@version.")], as_json: AsJson = False
) -> None:
    """What an encoder learned from, what it must not see, and what has happened to these sections since."""
    from cytonet_pipeline.lineage import ancestors_of, learning_of, sections_of
    from cytonet_pipeline.store import Store

    encoder, _, version = name.partition("@")
    settings = Settings.from_environment()
    store = Store(settings.store)
    sections = sections_of(encoder, store, version or None)
    sections = sections.assign(since=_since(sections, settings, store))
    if as_json:
        typer.echo(sections.to_json(orient="records", indent=2))
        return
    columns = ["brain", "sample", "role", "n_patches", "n_training_patches", "digest", "transform_digest"]
    changed = sections["since"] != ""
    shown = sections[[*columns, "since"] if changed.any() else columns]
    show(shown, title=name, droppable=("transform_digest", "digest", "n_patches"))
    out.print(learning_of(encoder, store, version or None), soft_wrap=True, markup=False)
    _say_what_happened(sections[changed])
    for ancestor in ancestors_of(encoder, store, version or None):
        origin = f"{ancestor['encoder']}@{ancestor['version']}" if ancestor["encoder"] else ancestor["path"]
        out.print(f"continues from {origin} (weights {ancestor['digest']})", soft_wrap=True, markup=False)


@lineage_app.command("section")
def lineage_section(
    section: Annotated[str, typer.Argument(help="BRAIN/SAMPLE, for example B01/4332; with or without sub-, sample-.")],
    as_json: AsJson = False,
) -> None:
    """What each trained encoder learned from a section, and what has happened to the section since."""
    import pandas as pd

    from cytonet_pipeline.lineage import encoders_of, find_section, sections_of
    from cytonet_pipeline.store import Store

    settings = Settings.from_environment()
    store = Store(settings.store)
    brain, sample = find_section(section, store, _data_set(settings))
    uses = encoders_of(brain, sample, store)
    recorded = [sections_of(use.encoder, store, use.version) for use in uses]
    rows = [frame[(frame["brain"] == brain) & (frame["sample"] == sample)] for frame in recorded]
    since = [" ".join(_since(row, settings, store)) for row in rows]
    frame = pd.DataFrame([{**use._asdict(), "since": text} for use, text in zip(uses, since, strict=True)])
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2))
    elif frame.empty:
        out.print(f"no trained encoder knows {brain}/{sample}", markup=False)
    else:
        show(frame, title=f"{brain}/{sample}", droppable=("version",))


@lineage_app.command("affected")
def lineage_affected(
    what: Annotated[str, typer.Argument(help="BRAIN/SAMPLE or BRAIN, for example B01/2315 or B01.")],
    as_json: AsJson = False,
) -> None:
    """Every model, probe, UMAP, map and table that used a section or a brain, and how.

    Ask it when a section has vanished, was withdrawn, replaced or changed, or before you withdraw one: a sound section
    is answered the same way. Nothing is changed.
    """
    import pandas as pd

    from cytonet_pipeline.lineage import affected_by, find_brain, find_section
    from cytonet_pipeline.lineage.affected import as_json as in_json
    from cytonet_pipeline.store import Store

    settings = Settings.from_environment()
    store, dataset = Store(settings.store), _data_set(settings)
    if "/" in what:
        brain, sample = find_section(what, store, dataset)
        samples: list[str] | None = [sample]
    else:
        brain, samples = find_brain(what, store, dataset), None
    results = affected_by(store, brain, samples)
    if as_json:
        typer.echo(in_json(results))
        return
    title = brain if samples is None else f"{brain}/{samples[0]}"
    if not results:
        out.print(f"nothing in the store used {title}")
        return
    of = [each.encoder if each.current else f"{each.encoder}@{each.version}" for each in results]
    frame = pd.DataFrame({"what": [each.what for each in results], "of": of, "how": [each.how for each in results]})
    show(frame, title=title)
    _say_state(brain, samples, settings, store)


@lineage_app.command("voxel", context_settings={"ignore_unknown_options": True})
def lineage_voxel(
    of: Annotated[str, typer.Argument(metavar="MAP", help="A map of areas (…_dseg.nii.gz) or a copy, or ENCODER.")],
    x: Annotated[float, typer.Argument(help="Right in Colin-27 (mm); with --index, voxel index i.")],
    y: Annotated[float, typer.Argument(help="Anterior (mm); with --index, j.")],
    z: Annotated[float, typer.Argument(help="Superior (mm); with --index, k.")],
    index: Annotated[bool, typer.Option("--index", help="x, y and z are indices of a voxel of the map.")] = False,
    most: Annotated[int, typer.Option("--most", help="Training sections to list.", min=1)] = 5,
    as_json: AsJson = False,
) -> None:
    """From a voxel of a map, or a point in Colin-27, back to probe, encoder and the nearest training sections.

    With ENCODER or ENCODER@VERSION, the map is that encoder's. If it has none, the point alone is answered. Distances
    are those to the nearest training patch of a section, in Colin-27.
    """
    import numpy as np

    from cytonet_pipeline.errors import StoreError
    from cytonet_pipeline.evaluation.maps.map_origin import find_map, origin_of_voxel
    from cytonet_pipeline.lineage import folder_of, learning_of, nearest_training_sections
    from cytonet_pipeline.store import Store

    store = Store(Settings.from_environment().store)
    point, origin = np.array([x, y, z]), None
    try:
        made = find_map(of, store)
        encoder, version = made.encoder, made.version
        origin = origin_of_voxel(made, point, in_voxels=index, store=store)
        point = point if not index else origin.centre_mm
    except StoreError as error:
        encoder, _, version = of.partition("@")
        version = folder_of(encoder, store, version or None).name
        if index:
            raise
        err.print(f"the point alone is answered: {error.what}", soft_wrap=True)
    sections = nearest_training_sections(encoder, store, point, version, most=most)
    if as_json:
        found = {"encoder": encoder, "version": version, "point_mm": point.tolist(), "origin": None}
        if origin is not None:
            found["origin"] = {**asdict(origin), "centre_mm": origin.centre_mm.tolist(), "probe": str(origin.probe)}
        typer.echo(json.dumps({**found, "training_sections": sections.to_dict("records")}, indent=2))
        return
    if origin is not None:
        _print_origin(made, origin)
    current = "in use" if version == store.current_version(encoder) else "not in use"
    out.print(f"encoder   {encoder}@{version} ({current}): {learning_of(encoder, store, version)}", soft_wrap=True)
    place = ", ".join(f"{value:g}" for value in point)
    show(sections, title=f"training sections nearest to {place} mm", droppable=("n_patches", "y_px", "x_px"))


@lineage_app.command("page")
def lineage_page(
    name: Annotated[str, typer.Argument(help="Encoder, or encoder@version.")],
    to: Annotated[Path | None, typer.Option(help="File to write; default: its place in the store.")] = None,
) -> None:
    """Make the lineage page of an encoder, as things are now: an HTML file that opens without a network.

    It shows the way from sections to maps and each brain's sections as a strip, searchable and with thumbnails. Runs
    make it, too, when an encoder is trained or evaluated.
    """
    from cytonet_pipeline.stages.lineage_page import make_page

    encoder, _, version = name.partition("@")
    out.print(str(make_page(Settings.from_environment(), encoder, version or None, to)), soft_wrap=True)


@lineage_app.command("export")
def lineage_export(
    name: Annotated[str, typer.Argument(help="Encoder, or encoder@version.")],
    prov: Annotated[Path, typer.Option("--prov", help="File to write, W3C PROV-JSON; it must not exist.")],
) -> None:
    """Write a model's lineage for other programs and for later: sections, training set, weights, evaluations.

    PROV-JSON is a W3C format: any program that reads it can answer which scans, by their digests, made a model, long
    after this one is gone.
    """
    from cytonet_pipeline.lineage import as_prov
    from cytonet_pipeline.store import Store, write_text

    encoder, _, version = name.partition("@")
    if prov.exists():
        raise ConfigurationError(f"{prov}: exists already.", to_fix="name a new file")
    document = as_prov(encoder, Store(Settings.from_environment().store), version or None)
    write_text(prov, json.dumps(document, indent=1) + "\n")
    counts = ", ".join(f"{len(document.get(kind, {}))} {words}" for kind, words in _PROV_KINDS.items())
    out.print(f"{prov}: {counts}", soft_wrap=True)


@lineage_app.command("diff")
def lineage_diff(
    a: Annotated[str, typer.Argument(help="Encoder, or encoder@version.")],
    b: Annotated[str, typer.Argument(help="Encoder, or encoder@version.")],
    as_json: AsJson = False,
) -> None:
    """How what two encoders saw differs: sections, transforms, roles, configuration."""
    from cytonet_pipeline.lineage import compare, find_training_set
    from cytonet_pipeline.store import Store

    store = Store(Settings.from_environment().store)
    lines = compare(find_training_set(a, store), find_training_set(b, store))
    typer.echo(json.dumps(lines, indent=2) if as_json else "\n".join(lines) or "no difference")


def _print_origin(made: "MapOfAreas", origin: "VoxelOrigin") -> None:
    """Print what a voxel says, and where it comes from, a line each."""
    centre = ", ".join(f"{value:g}" for value in origin.centre_mm)
    says = (
        f"label {origin.label}, {origin.area}, probability {origin.probability:.2f}"
        if origin.label
        else ("no prediction: outside the cortex, or too far from any section")
    )
    grid = origin.grid
    section = f"{grid['brain']}/{grid['sample']} at pixel {grid['x_px']}, {grid['y_px']}"
    word = "taken from" if origin.label else "the nearest grid point is in"
    out.print(f"map       {made.path}", soft_wrap=True)
    out.print(f"voxel     {', '.join(map(str, origin.voxel))}, centre at {centre} mm: {says}", soft_wrap=True)
    out.print(f"section   {word} {section}, {grid['distance_mm']:.2f} mm from the centre", soft_wrap=True)
    out.print(f"probe     {origin.probe}", soft_wrap=True)


def _data_set(settings: Settings) -> "Dataset | None":
    """Return the data set; None, with a line on standard error, if there is none: the store answers without it."""
    from cytonet_pipeline.dataset import Dataset

    try:
        return Dataset(settings.data, settings.experiments.dataset)
    except ConfigurationError as error:
        err.print(f"what has happened since is not known: {error.what}", soft_wrap=True, markup=False)
        return None


def _since(sections: "pd.DataFrame", settings: Settings, store: "Store") -> "list[str]":
    from cytonet_pipeline.lineage import happened_since

    try:
        return list(happened_since(sections, settings, store))
    except ConfigurationError as error:
        return [f"not known: {error.what}"] * len(sections)


def _say_what_happened(changed: "pd.DataFrame") -> None:
    """Print the sections to which something has happened: a line per kind of event."""
    for text, rows in changed.groupby("since", sort=False):
        names = [f"{brain}/{sample}" for brain, sample in zip(rows["brain"], rows["sample"], strict=True)]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        out.print(f"since then, {', '.join(names[:_MOST_NAMED])}{more}: {text}", soft_wrap=True, markup=False)


def _say_state(brain: str, samples: "list[str] | None", settings: Settings, store: "Store") -> None:
    """Print what has happened to a section or to the sections of a brain since encoders learned from them."""
    from cytonet_pipeline.lineage import recorded_sections

    rows = recorded_sections(brain, store)
    rows = rows if samples is None else rows[rows["sample"].isin(samples)]
    changed = rows.assign(since=_since(rows, settings, store)).query("since != ''")
    if changed.empty:
        out.print("as recorded until now; the list is what would be affected if it changed or went", soft_wrap=True)
    _say_what_happened(changed)
