"""Which brains of the store take part: those that the data set has and releases now.

A store keeps what it was given. A brain that has left the data set, or whose release was withdrawn, lies in it until
somebody takes it out; it is in no training set and in no evaluation from the moment on which the data set says so.
"""

from collections.abc import Iterable

import pandas as pd

from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.errors import StoreError, TrainingError
from cytonet_pipeline.names import describe_known
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, read_table

_USABLE = ("ok", "flagged")


def brains_in(store: Store) -> list[str]:
    """Return every brain of which the store holds anything, sorted by name."""
    tables = (store.section_scans, store.colin27_transforms, store.patch_index)
    folders = (path for table in tables for path in table("").parent.glob("brain=*"))
    return sorted({path.name.partition("=")[2] for path in folders})


def brains_left_out(settings: Settings, brains: Iterable[str]) -> dict[str, str]:
    """Return those of some brains that take no part in training and evaluation, with the reasons.

    Cheap: `participants.tsv` is read once, and one folder per brain is looked for.

    Raises
    ------
    ConfigurationError
        There is no data set, or its table of participants cannot be read.
    """
    return Dataset(settings.data, settings.experiments.dataset).reasons_against(brains)


def stored_brains_left_out(settings: Settings, store: Store) -> dict[str, str]:
    """Return the brains that the store has and that take no part, with the reasons.

    Where the scans of one are those of a brain that takes part, it was renamed, and the reason says so.

    Raises
    ------
    ConfigurationError
        There is no data set, or its table of participants cannot be read.
    """
    stored = brains_in(store)
    left_out = brains_left_out(settings, stored)
    if not left_out:
        return {}
    scans = scans_in(store, [brain for brain in stored if brain not in left_out])
    return {brain: reason + _new_name(scans_in(store, [brain]), scans) for brain, reason in left_out.items()}


def brains_to_come(settings: Settings, store: Store) -> list[str]:
    """Return the brains that may take part and of which the store holds nothing yet."""
    dataset, stored = Dataset(settings.data, settings.experiments.dataset), set(brains_in(store))
    missing = [brain for brain in dataset.brains() if brain not in stored]
    left_out = dataset.reasons_against(missing)
    return [brain for brain in missing if brain not in left_out]


def scans_in(store: Store, brains: Iterable[str]) -> pd.DataFrame:
    """Return `brain`, `sample` and `digest` of the usable scans in the inventories of some brains."""
    columns = ["brain", "sample", "digest", "status"]
    frames = [pd.DataFrame(columns=columns)]
    for brain in brains:
        try:
            path = store.section_scans(brain) / "sections.parquet"
            frames.append(read_table(path, "section_scans", columns=columns))
        except StoreError:
            continue  # Not surveyed: it has no scans that could be compared.
    rows = pd.concat(frames, ignore_index=True)
    return rows.loc[rows["status"].isin(_USABLE) & rows["digest"].notna(), columns[:3]].reset_index(drop=True)


def require_known_unseen_brain(encoder: str, settings: Settings) -> None:
    """Refuse an unseen brain that the data set does not know: by a slip of the pen the real one would be trained on.

    Raises
    ------
    TrainingError
        There is neither a folder nor a row in `participants.tsv` of that name.
    """
    held_out, known = settings.held_out(encoder), Dataset(settings.data, settings.experiments.dataset).brains()
    if held_out not in known:
        raise TrainingError(
            f"encoder {encoder}: its unseen brain, held_out: {held_out}, is not in the data set; "
            f"{describe_known(held_out, known)}.",
            looked_for=(str(settings.data / f"sub-{held_out}"), str(settings.data / "participants.tsv")),
            to_fix=f"correct held_out in {settings.experiments_file}, also if the brain was renamed; one that is still "
            "to come, or has left for good, needs a row in participants.tsv",
        )


def new_name_of(store: Store, brain: str) -> str:
    """Return a sentence on the name under which a brain of the store lies in it once more; empty if under none."""
    return _new_name(scans_in(store, [brain]), scans_in(store, [each for each in brains_in(store) if each != brain]))


def _new_name(old: pd.DataFrame, others: pd.DataFrame) -> str:
    same = others[others["digest"].isin(old["digest"])]
    names = sorted(same["brain"].unique())
    return f" Its scans are those of {' and '.join(names)}: it was renamed." if names else ""
