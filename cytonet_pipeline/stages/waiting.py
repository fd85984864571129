"""Brains that would shrink or have vanished: they wait for confirmation before anything is made from what is left.

A section table of one row, an unmounted disk or a folder moved by mistake would otherwise take sections or whole brains
out of every training set in silence. Until `cytonet accept BRAIN` the earlier result stays in use. What people have
decided already does not wait: withdrawn sections, brains that are not released, forgotten brains.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from cytonet_pipeline.errors import ConfigurationError, CytonetError, DataFault, StoreError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.store import Store, read_table
from cytonet_pipeline.store.decisions import Loss, forgotten_brains, losses, now, read_loss, remove_loss, write_loss
from cytonet_pipeline.store.pins import pin_of

if TYPE_CHECKING:
    import pandas as pd

    from cytonet_pipeline.dataset import Brain

_USABLE = ("ok", "flagged")
_MOST_NAMED = 5


def waiting_brains(settings: Settings) -> dict[str, Loss]:
    """Find the brains of the store that wait for confirmation.

    Raises
    ------
    ConfigurationError
        The data set cannot be read.
    """
    from cytonet_pipeline.dataset import Dataset

    store = store_of(settings)
    forgotten, dataset = forgotten_brains(store), Dataset(settings.data, settings.experiments.dataset)
    waiting = vanished_brains(settings)
    for brain in sorted((_surveyed(store) - forgotten.keys()) & set(dataset.released())):
        loss = loss_of(settings, dataset.brain(brain))
        if loss is not None:
            waiting[brain] = loss
    return waiting


def vanished_brains(settings: Settings) -> dict[str, Loss]:
    """Find the brains of the store that are not in the data set any more and wait for confirmation; cheap.

    Raises
    ------
    ConfigurationError
        The data set cannot be read.
    """
    from cytonet_pipeline.dataset import Dataset

    store = store_of(settings)
    known = {*forgotten_brains(store), *Dataset(settings.data, settings.experiments.dataset).brains()}
    losses = {brain: _vanished(store, brain) for brain in sorted(_surveyed(store) - known)}
    return {brain: loss for brain, loss in losses.items() if loss is not None}


def loss_of_named(settings: Settings, name: str) -> Loss | None:
    """Return what a brain waits for, whether the data set has it or not; None if it does not wait."""
    from cytonet_pipeline.dataset import Dataset

    dataset = Dataset(settings.data, settings.experiments.dataset)
    return loss_of(settings, dataset.brain(name)) if name in dataset.brains() else _vanished(store_of(settings), name)


def loss_of(settings: Settings, brain: "Brain") -> Loss | None:
    """Return what a brain would lose if it were ingested now, if that has to wait for confirmation."""
    store = store_of(settings)
    stored = _usable_samples(store, brain.name)
    if not stored:
        return None
    now_there = {section.sample: section for section in brain.sections}
    lost = {}
    for sample in stored:
        section = now_there.get(sample)
        if section is None:
            lost[sample] = "not in the data set any more"
        elif section.status == "rejected":
            lost[sample] = section.reason
    found = read_loss(store, "waiting", brain.name)
    fingerprint = ""
    if found is not None and found.fingerprint == brain.fingerprint():
        # Only opening the scans showed it; nothing has changed since.
        lost, fingerprint = {**found.lost, **lost}, found.fingerprint
    return _unless_small(settings, store, Loss(brain.name, lost, fingerprint=fingerprint), len(stored))


def require_no_loss_found(settings: Settings, brain: "Brain", rows: "pd.DataFrame") -> None:
    """Keep a new inventory from taking the place of the earlier one if it lost too many sections.

    Parameters
    ----------
    rows : DataFrame
        Table `section_scans`, newly made: some faults show only when scans are opened.

    Raises
    ------
    StoreError
        It did. What was lost is recorded, so that it can be accepted without opening the scans again.
    """
    store = store_of(settings)
    stored = _usable_samples(store, brain.name)
    faulty = rows[rows["status"] == "rejected"]
    reasons = dict(zip(faulty["sample"], faulty["reason"], strict=True))
    usable_or_withdrawn = set(rows.loc[rows["status"] != "rejected", "sample"])
    lost = {s: str(reasons.get(s, "not in the data set any more")) for s in stored if s not in usable_or_withdrawn}
    loss = _unless_small(settings, store, Loss(brain.name, lost, fingerprint=brain.fingerprint()), len(stored))
    if loss is not None:
        write_loss(store, "waiting", loss)
        raise fault_of(settings, loss)


def accept(settings: Settings, brain: str, by: str) -> Loss:
    """Accept what a brain loses: it is ingested as it is now, or stays out of training if it has vanished.

    Raises
    ------
    ConfigurationError
        The brain does not wait for confirmation.
    """
    waiting = waiting_brains(settings)
    if brain not in waiting:
        raise ConfigurationError(
            f"sub-{brain} does not wait for confirmation.", to_fix=f"waiting are: {', '.join(waiting) or 'none'}"
        )
    loss = waiting[brain]
    earlier = read_loss(store_of(settings), "accepted", brain)
    lost = {**(earlier.lost if earlier is not None and not earlier.applied else {}), **loss.lost}
    accepted = Loss(brain, lost, whole=loss.whole, by=by, date=now())
    write_loss(store_of(settings), "accepted", accepted)
    return accepted


def settle_returned(settings: Settings) -> None:
    """Note which brains are back whose vanishing was accepted: the confirmation does not count for the next time.

    Nothing is ingested of a brain that returns unchanged, so this cannot wait for `settle`.
    """
    from cytonet_pipeline.dataset import Dataset

    store = store_of(settings)
    gone = [loss for loss in losses(store, "accepted") if loss.whole]
    there = Dataset(settings.data, settings.experiments.dataset).brains() if gone else []
    for accepted in gone:
        if accepted.brain in there:
            write_loss(store, "accepted", replace(accepted, whole=False, applied=not accepted.lost))


def settle(settings: Settings, brain: str) -> None:
    """Note that a brain has been ingested: what was accepted counts for that loss and not for the next one."""
    store = store_of(settings)
    remove_loss(store, "waiting", brain)
    accepted = read_loss(store, "accepted", brain)
    if accepted is not None and not accepted.applied:
        write_loss(store, "accepted", Loss(brain, {}, whole=False, by=accepted.by, date=accepted.date, applied=True))


def fault_of(settings: Settings, loss: Loss) -> StoreError:
    """Return what to tell people about a brain that waits."""
    from cytonet_pipeline.lineage import new_name_of

    name = f"sub-{loss.brain}"
    if loss.whole:
        places = [str(settings.data / name), f"{settings.data / 'participants.tsv'}, row {name}"]
        return StoreError(
            f"{name} has vanished from the data set; it waits for confirmation."
            f"{new_name_of(store_of(settings), loss.brain)}",
            looked_for=places,
            to_fix=f"put it back; if it is meant to be gone: cytonet accept {loss.brain}; to delete what the store has "
            f"of it: cytonet forget {loss.brain}",
            meanwhile="its earlier results and the encoders that saw it stay in use; those are not trained again",
        )
    n_stored = len(_usable_samples(store_of(settings), loss.brain))
    named = [f"{sample}: {reason}" for sample, reason in sorted(loss.lost.items())]
    more = [f"and {len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
    return StoreError(
        f"{name} would lose {len(loss.lost)} of {n_stored} sections; it waits for confirmation.",
        looked_for=[*named[:_MOST_NAMED], *more],
        to_fix="put them back (a section table lists *all* sections; to withdraw single ones: cytonet withdraw "
        f"{loss.brain}/SAMPLE --reason …); if they are meant to be gone: cytonet accept {loss.brain}",
        meanwhile="its earlier result and the encoders that saw it stay in use; those are not trained again",
    )


def reason_not_to_train(settings: Settings, encoder: str) -> str:
    """Return why an encoder that is trained is not trained again for now; empty if nothing speaks against it.

    It waits while a brain that the version in use knows waits for confirmation, and while a version is pinned.
    """
    store = store_of(settings)
    pinned = pin_of(store, encoder)
    if pinned is not None:
        return pinned.text
    version = store.current_version(encoder)
    if version is None:
        return ""
    try:
        rows = read_table(store.encoder(encoder, version) / "sections.parquet", "training_sections", columns=["brain"])
        waiting = waiting_brains(settings)
    except CytonetError:
        return ""  # Who asks next reports it.
    known = sorted(set(rows["brain"]) & waiting.keys())
    faults = "\n".join(str(fault_of(settings, waiting[brain])) for brain in known)
    return f"encoder {encoder} is not trained again while a brain that it knows waits.\n{faults}" if known else ""


def _vanished(store: Store, brain: str) -> Loss | None:
    accepted = read_loss(store, "accepted", brain)
    return None if accepted is not None and accepted.whole else Loss(brain, {}, whole=True)


def _unless_small(settings: Settings, store: Store, loss: Loss, n_stored: int) -> Loss | None:
    """Return a loss without what was accepted before, None if the rest is within the tolerance."""
    accepted = read_loss(store, "accepted", loss.brain)
    known: Mapping[str, str] = accepted.lost if accepted is not None and not accepted.applied else {}
    lost = {sample: reason for sample, reason in loss.lost.items() if sample not in known}
    if len(lost) <= settings.experiments.ingest.shrink_tolerance * n_stored:
        return None
    return Loss(loss.brain, lost, fingerprint=loss.fingerprint)


def _surveyed(store: Store) -> set[str]:
    folders = store.section_scans("").parent.glob("brain=*/sections.parquet")
    return {path.parent.name.partition("=")[2] for path in folders}


def _usable_samples(store: Store, brain: str) -> list[str]:
    """Return the samples that the stored inventory of a brain can use; none without one that can be read."""
    path = store.section_scans(brain) / "sections.parquet"
    try:
        rows = read_table(path, "section_scans", columns=["sample", "status"])
    except (StoreError, DataFault):
        return []
    return sorted(rows.loc[rows["status"].isin(_USABLE), "sample"])
