"""What retraining an encoder would change, and whether that is worth the time of its GPUs."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from cytonet_pipeline.lineage import TrainingSet, affected_by, compare
from cytonet_pipeline.store import Store

# Differences of these make a section another one for training.
_CONTENT = ("digest", "pixel_um", "window_low", "window_high", "mask_digest", "transform_digest", "patches_digest")
_MOST_NAMED = 12


@dataclass(frozen=True)
class Change:
    """The difference between what an encoder in use has seen and what it would see now.

    Attributes
    ----------
    lines : tuple of str
        As of `lineage.compare`.
    summary : str
        Brains, sections and patches gained and lost, in one line: a tag of the run.
    share : float
        Patches that come, go or change, as a share of those that the encoder was trained on.
    of_data_alone : bool
        Whether settings, code and initial weights are as they were.
    affected : tuple of str
        Results of the store that used sections which are gone or changed.
    """

    lines: tuple[str, ...]
    summary: str
    share: float
    of_data_alone: bool
    affected: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it, for a log."""
        affected = ["affected by sections that are gone or changed:", *self.affected] if self.affected else []
        return "\n".join([self.summary, *self.lines, *affected])


def change_between(before: TrainingSet, now: TrainingSet, store: Store) -> Change:
    """Describe what retraining changes.

    Parameters
    ----------
    before : TrainingSet
        What the version in use was trained on.
    """
    old, new = (frame.set_index(["brain", "sample"]).sort_index() for frame in (before.sections, now.sections))
    lost, gained = old.index.difference(new.index), new.index.difference(old.index)
    both = old.index.intersection(new.index)
    differs = _differs(old.loc[both], new.loc[both])
    changed = both[differs.to_numpy()]
    lines = compare(before, now)
    trained = old["n_training_patches"].sum()
    moved = (
        old.loc[lost, "n_training_patches"].sum()
        + new.loc[gained, "n_training_patches"].sum()
        + pd.concat([old.loc[changed, "n_training_patches"], new.loc[changed, "n_training_patches"]], axis=1)
        .max(axis=1)
        .sum()
        + (new.loc[both, "n_training_patches"] - old.loc[both, "n_training_patches"])[~differs].abs().sum()
    )
    return Change(
        tuple(lines),
        _summary(old, new, (len(gained), len(lost), len(changed))),
        float(moved) / float(trained) if trained else 1.0,
        not any(line.startswith(("setting ", "code version:", "initial weights:")) for line in lines),
        tuple(_affected(before.encoder, lost.append(changed), store)),
    )


def _differs(old: pd.DataFrame, new: pd.DataFrame) -> "pd.Series[bool]":
    columns = [*_CONTENT, "role"]
    return ~((old[columns] == new[columns]) | (old[columns].isna() & new[columns].isna())).all(axis=1)


def _summary(old: pd.DataFrame, new: pd.DataFrame, sections: tuple[int, int, int]) -> str:
    brains = [set(frame.index.get_level_values("brain")) for frame in (old, new)]
    patches = [int(frame["n_training_patches"].sum()) for frame in (old, new)]
    named = [f"+{name}" for name in sorted(brains[1] - brains[0])] + [
        f"-{name}" for name in sorted(brains[0] - brains[1])
    ]
    gained, lost, changed = sections
    return (
        f"brains {' '.join(named) or 'as before'}; sections +{gained} -{lost}, {changed} changed; "
        f"training patches {patches[0]:,} to {patches[1]:,}"
    )


def _affected(encoder: str, sections: pd.Index, store: Store) -> Iterator[str]:
    """Name the results of an encoder, and the table, that used sections which are gone or changed."""
    by_brain: dict[str, list[str]] = {}
    for brain, sample in sections:
        by_brain.setdefault(str(brain), []).append(str(sample))
    lines = [
        f"{brain}: {result.what}{f' {result.encoder}@{result.version}' if result.encoder else ''}, {result.how}"
        for brain, samples in sorted(by_brain.items())
        for result in affected_by(store, brain, samples)
        if result.encoder in (encoder, "")
    ]
    yield from lines[:_MOST_NAMED]
    if len(lines) > _MOST_NAMED:
        yield f"and {len(lines) - _MOST_NAMED} more: cytonet lineage affected {next(iter(sorted(by_brain)))}"
