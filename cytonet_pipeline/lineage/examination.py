"""What `cytonet doctor` says of who takes part: names that nobody has, brains that are left out, copies, leaks."""

from collections.abc import Collection, Iterator

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.lineage.copies import describe_copies, leaking_copies, remedy_for_copies
from cytonet_pipeline.lineage.members import brains_in, scans_in, stored_brains_left_out
from cytonet_pipeline.names import describe_known
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, read_table
from cytonet_pipeline.store.pins import pins

_MOST_NAMED = 5
Finding = tuple[str, str]


def examine_members(settings: Settings, store: Store, waiting: Collection[str] = ()) -> Iterator[Finding]:
    """Examine which brains would take part in training now.

    Parameters
    ----------
    waiting : collection of str
        Brains that wait for confirmation, of which is said elsewhere that they are left out, and what to do.

    Yields
    ------
    (level, text)
        `bad`: a training run would be refused, or has seen what it was tested on; `note`: worth knowing.
    """
    known = Dataset(settings.data, settings.experiments.dataset).brains()
    for key, brain in _named_brains(settings):
        if brain not in known:
            yield "bad", f"{key}: {brain} is not in {settings.data}; {describe_known(brain, known)}"
    left_out = stored_brains_left_out(settings, store)
    for brain, reason in left_out.items():
        if brain in waiting:
            continue
        yield (
            "note",
            f"{reason} The store still has it; it is in no training set and not evaluated. "
            f"To take it out for good: cytonet forget {brain}",
        )
    scans = scans_in(store, [brain for brain in brains_in(store) if brain not in left_out])
    yield from (("bad", f"{line} Nothing is trained: {remedy_for_copies()}") for line in describe_copies(scans))
    yield from _leaks(settings, store)
    yield from (("note", pinned.text) for pinned in pins(store).values())


def _named_brains(settings: Settings) -> Iterator[Finding]:
    """Yield every brain that the experiments file names, with the key that names it."""
    experiments = settings.experiments
    block = experiments.dataset
    yield "dataset.held_out", block.held_out
    for key in ("window", "invert", "mask_value"):
        by_brain = getattr(block, key)
        yield from ((f"dataset.{key}", brain) for brain in (by_brain if isinstance(by_brain, dict) else ()))
    for name, encoder in experiments.encoders.items():
        if encoder.held_out is not None and not encoder.retired:
            yield f"encoders.{name}.held_out", encoder.held_out
    yield from (("evaluation.map_brains", brain) for brain in experiments.evaluation.map_brains)


def _leaks(settings: Settings, store: Store) -> Iterator[Finding]:
    """Yield encoders in use whose training sections were copies of test sections: earlier versions did not look."""
    for encoder in settings.experiments.encoders:
        version = store.current_version(encoder)
        if version is None:
            continue
        path = store.encoder(encoder, version) / "sections.parquet"
        columns = ["brain", "sample", "digest", "role"]
        leaking = leaking_copies(read_table(path, "training_sections", columns=columns))
        if leaking:
            more = f" and {len(leaking) - _MOST_NAMED} more" if len(leaking) > _MOST_NAMED else ""
            yield (
                "bad",
                f"encoder {encoder}: was trained on copies of sections that it is tested on, so its scores are not "
                f"those of unseen tissue: {', '.join(leaking[:_MOST_NAMED])}{more}; train it again",
            )
