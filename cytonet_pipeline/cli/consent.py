"""Commands for decisions of people: withdraw sections, accept losses, forget a brain."""

from pathlib import Path
from typing import Annotated

import typer

from cytonet_pipeline.cli.app import app
from cytonet_pipeline.cli.console import err, out
from cytonet_pipeline.errors import ConfigurationError, CytonetError
from cytonet_pipeline.names import bare_brain, describe_known, split_section
from cytonet_pipeline.settings import Settings

By = Annotated[str | None, typer.Option("--by", help="Who decides; default: the user who runs the command.")]


@app.command()
def withdraw(
    sections: Annotated[list[str], typer.Argument(help="SUB/SAMPLE, for example B03/3003; several of one brain.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; one line, shown wherever the section is listed.")],
    by: By = None,
) -> None:
    """Withdraw single sections: they are in no training set and no evaluation from then on, the others stay.

    Adds a row per section to derivatives/sections/sub-XX/sub-XX_withdrawn.tsv of the data set, the one file there that
    this program writes. To take a withdrawal back, delete its row. `cytonet run`, or the sensor, then ingests the brain
    without the sections; every result that used them is listed. docs/consent.md says more.
    """
    from cytonet_pipeline.dataset import Dataset
    from cytonet_pipeline.dataset.withdrawals import Withdrawal, add_withdrawals, withdrawals_path
    from cytonet_pipeline.store.decisions import now, user_name

    settings = Settings.from_environment()
    brain, samples = _sections_of_one_brain(sections)
    if not reason.strip():
        raise ConfigurationError("--reason is empty.", to_fix='say why, for example: --reason "torn at mounting"')
    known = {s.sample: s for s in Dataset(settings.data, settings.experiments.dataset).brain(brain).sections}
    for sample in samples:
        if sample not in known:
            raise ConfigurationError(
                f"sub-{brain} has no section {sample}; {describe_known(sample, known)}. Nothing is withdrawn.",
                to_fix="correct the name; cytonet doctor lists what is wrong with a brain",
            )
    new = [sample for sample in samples if known[sample].status != "withdrawn"]
    for sample in sorted(set(samples) - set(new)):
        out.print(f"{brain}/{sample}: withdrawn already, {known[sample].reason}", markup=False, soft_wrap=True)
    if not new:
        return
    path = withdrawals_path(settings.data, brain)
    add_withdrawals(path, [Withdrawal(sample, reason, by or user_name(), now()[:10]) for sample in new])
    standing = sum(section.status == "ok" for section in known.values()) - sum(known[s].status == "ok" for s in new)
    out.print(f"withdrawn: {', '.join(f'{brain}/{sample}' for sample in new)}, in {path}", markup=False, soft_wrap=True)
    out.print(f"{standing} other sections of {brain} stay in use", markup=False)
    _print_affected(settings, brain, new)
    out.print("next: cytonet run, or the sensor new_brains, ingests the brain without them")


@app.command()
def accept(
    brain: Annotated[
        str | None, typer.Argument(help="Brain, with or without sub-; without it, list who waits.")
    ] = None,
    by: By = None,
) -> None:
    """Accept that a brain has lost sections, or has vanished from the data set; without a brain, list those that wait.

    A brain that would lose more than `ingest: shrink_tolerance` of its sections (a tenth), or that is not in the data
    set any more, waits for a person: its earlier results stay in use, and encoders that saw it are not trained again.
    After `accept` the brain is ingested as it is now; one that has vanished stays out of the next training sets.
    """
    from cytonet_pipeline.stages import waiting
    from cytonet_pipeline.store.decisions import user_name

    settings = Settings.from_environment()
    if brain is None:
        found = waiting.waiting_brains(settings)
        for loss in found.values():
            out.print(str(waiting.fault_of(settings, loss)), markup=False, soft_wrap=True)
        if not found:
            out.print("no brain waits for confirmation")
        return
    accepted = waiting.accept(settings, bare_brain(brain), by or user_name())
    what = "it has vanished" if accepted.whole else f"the loss of {', '.join(sorted(accepted.lost))}"
    out.print(f"accepted for sub-{accepted.brain}: {what}. Next: cytonet run", markup=False, soft_wrap=True)


@app.command()
def forget(
    brain: Annotated[str, typer.Argument(help="Brain, with or without sub-.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is listed; it cannot be brought back.")] = False,
    with_weights: Annotated[
        bool, typer.Option("--with-weights", help="Also the encoders whose weights saw the brain.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Let the brain be ingested again; restores nothing.")] = False,
    by: By = None,
) -> None:
    """Take a brain out of the store for good, as when consent is withdrawn: list what goes, with --yes delete it.

    Deleted are its inventory, thumbnails, pictures, transforms, patches and features, the evaluations made with it, and
    what Dagster's instance keeps of all that. Encoders whose weights saw it are named; they go only with
    --with-weights. A record with the name, the time and your name stays, so that the brain is not ingested again in
    silence. The data set is never touched: remove the brain there too. docs/consent.md lists what lies elsewhere.
    """
    from cytonet_pipeline.stages.forgetting import forget as forget_brain
    from cytonet_pipeline.stages.forgetting import plan_to_forget, readmit
    from cytonet_pipeline.store import open_store
    from cytonet_pipeline.store.decisions import user_name

    settings, name = Settings.from_environment(), bare_brain(brain)
    who = by or user_name()
    if undo:
        readmit(settings, name, who)
        out.print(f"sub-{name} may be ingested again, from the data set, by the next cytonet run", markup=False)
        return
    _require_known(settings, name)
    plan = plan_to_forget(settings, name, with_weights=with_weights)
    for holding in plan.holdings:
        part = "rows of it in " if holding.table else ""
        line = f"{holding.bytes / 1e6:9.2f} MB  {part}{holding.path.relative_to(settings.store)}  ({holding.why})"
        out.print(line, markup=False, soft_wrap=True)
    for weights in plan.weights:
        fate = "deleted too" if with_weights else "kept; --with-weights deletes it"
        current = ", in use" if weights.current else ""
        out.print(f"rests on it: {weights.label}{current}, {weights.how}: {fate}", markup=False, soft_wrap=True)
    if not yes:
        again = f"cytonet forget {name} --yes{' --with-weights' if with_weights else ''}"
        out.print(f"nothing is deleted yet. Delete all of this for good with: {again}", markup=False, soft_wrap=True)
        return
    from cytonet_pipeline.defs.instance import dagster_home, instance_exists

    if instance_exists(settings.store):
        # Before anything is deleted: an instance of another store is refused.
        dagster_home(settings.store)
    open_store(settings)
    record = forget_brain(settings, name, who, with_weights=with_weights)
    out.print(f"{record.text}; the record is {settings.store / 'forgotten' / name}.json", markup=False, soft_wrap=True)
    _forget_in_dagster(
        settings, name, sorted({h.path.parent.name for h in plan.holdings if _is_evaluation(settings, h.path)})
    )
    if name in _brains_of(settings):
        err.print(f"sub-{name} is still in {settings.data}: remove it there as well", markup=False, soft_wrap=True)


def _sections_of_one_brain(sections: list[str]) -> tuple[str, list[str]]:
    pairs = [split_section(section) for section in sections]
    for section, pair in zip(sections, pairs, strict=True):
        if pair is None:
            raise ConfigurationError(f"{section!r} is not a section.", to_fix="write SUB/SAMPLE, for example B03/3003")
    named = [pair for pair in pairs if pair is not None]
    if len({brain for brain, _ in named}) > 1:
        raise ConfigurationError("sections of several brains.", to_fix="withdraw those of one brain at a time")
    return named[0][0], list(dict.fromkeys(sample for _, sample in named))


def _print_affected(settings: Settings, brain: str, samples: list[str]) -> None:
    """Print what rests on sections, a line per version of an encoder."""
    from cytonet_pipeline.lineage import affected_by
    from cytonet_pipeline.store import Store

    try:
        results = affected_by(Store(settings.store), brain, samples)
    except CytonetError as error:
        err.print(f"what rests on them cannot be read: {error}", markup=False, soft_wrap=True)
        return
    by_version: dict[str, list[str]] = {}
    for each in results:
        by_version.setdefault(f"{each.encoder}@{each.version}".strip("@"), []).append(each.what)
    for version, kinds in by_version.items():
        named = f"{version}: {', '.join(kinds)}" if version else ", ".join(kinds)
        out.print(f"affected: {named}", markup=False, soft_wrap=True)
    if results:
        out.print(f"how: cytonet lineage affected {brain}/{samples[0]}", markup=False, soft_wrap=True)


def _require_known(settings: Settings, brain: str) -> None:
    """Refuse a name that neither the store nor the data set nor a record of forgetting has."""
    from cytonet_pipeline.stages.holdings import brains_in_store
    from cytonet_pipeline.store import Store
    from cytonet_pipeline.store.decisions import forgotten_brains

    store = Store(settings.store)
    known = {*brains_in_store(store), *forgotten_brains(store), *_brains_of(settings)}
    if brain not in known:
        raise ConfigurationError(
            f"no brain {brain!r} in the store or the data set; {describe_known(brain, known)}.",
            looked_for=(str(settings.store), str(settings.data)),
            to_fix="correct the name",
        )


def _brains_of(settings: Settings) -> list[str]:
    from cytonet_pipeline.dataset import Dataset

    try:
        return Dataset(settings.data, settings.experiments.dataset).brains()
    except ConfigurationError:
        return []


def _is_evaluation(settings: Settings, path: Path) -> bool:
    return path.relative_to(settings.store).parts[0] in ("area_maps", "umap", "linear_probes")


def _forget_in_dagster(settings: Settings, brain: str, encoders: list[str]) -> None:
    from cytonet_pipeline.defs.dagster_internals import compact_databases
    from cytonet_pipeline.defs.forgetting import forget_in_instance
    from cytonet_pipeline.defs.instance import dagster_home, instance_exists, open_instance

    if not instance_exists(settings.store):
        out.print(
            "no Dagster instance here (no DAGSTER_HOME, no .dagster in the project): one elsewhere keeps the partition "
            "and the pictures of its runs until the same command is run with its DAGSTER_HOME",
            soft_wrap=True,
        )
        return
    with open_instance(settings.store) as instance:
        for line in forget_in_instance(instance, brain, encoders):
            out.print(line, markup=False, soft_wrap=True)
    # With SQLite, deleted bytes stay in its files until they are compacted; with PostgreSQL there are no such files.
    for path in compact_databases(dagster_home(settings.store)):
        err.print(f"{path} is in use: what was deleted may still be in its free pages", markup=False, soft_wrap=True)
