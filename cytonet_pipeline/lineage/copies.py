"""Copies: one scan under two names, of brains or of sections.

A copy of a test section among the training sections is leakage that no split by names can see; two training sections of
one scan count twice. Scans are compared by their digests, so a copy that was compressed anew is not recognised.
"""

import pandas as pd

from cytonet_pipeline.errors import TrainingError

_MOST_NAMED = 3
_TEST_ROLES = ("seen_brains", "unseen_brain")


def copies_in(sections: pd.DataFrame) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Find scans that occur more than once.

    Parameters
    ----------
    sections : DataFrame
        `brain`, `sample`, `digest` of the scan.

    Returns
    -------
    dict
        By pair of brains (twice the same for copies within one), the pairs of sections: `B20/1786`, `P20/1786`.
    """
    repeated = sections[sections["digest"].notna() & sections["digest"].duplicated(keep=False)]
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for _, rows in repeated.sort_values(["brain", "sample"]).groupby("digest", sort=False):
        first, *others = zip(rows["brain"], rows["sample"], strict=True)
        for other in others:
            pairs.setdefault((first[0], other[0]), []).append(("/".join(first), "/".join(other)))
    return dict(sorted(pairs.items()))


def describe_copies(sections: pd.DataFrame) -> list[str]:
    """Return one sentence per pair of brains that have scans in common, and per brain with a scan under two names."""
    lines = []
    for (one, other), pairs in copies_in(sections).items():
        listed = ", ".join(f"{a} = {b}" for a, b in pairs[:_MOST_NAMED])
        more = f" and {len(pairs) - _MOST_NAMED} more" if len(pairs) > _MOST_NAMED else ""
        scans = f"{len(pairs)} {'scan' if len(pairs) == 1 else 'scans'}"
        where = f"{one} has {scans} under two names" if one == other else f"{one} and {other} have {scans} in common"
        lines.append(f"{where}: {listed}{more}.")
    return lines


def remedy_for_copies() -> str:
    """Return what to do about copies."""
    return (
        "take one of each two out: a brain by `ingest` in participants.tsv (withdrawn instead of ready), "
        "a section by: cytonet withdraw BRAIN/SAMPLE --reason copy"
    )


def require_no_copies(encoder: str, sections: pd.DataFrame) -> None:
    """Refuse a training set in which one scan has two names.

    Parameters
    ----------
    sections : DataFrame
        All sections with their `role`, those of an unseen brain that left the data set among them.

    Raises
    ------
    TrainingError
        There are copies; names both sides.
    """
    lines = describe_copies(sections)
    if lines:
        leaks = leaking_copies(sections)
        why = "It would be trained on what it is tested on" if leaks else "They would count twice"
        named = f" ({', '.join(leaks[:_MOST_NAMED])})" if leaks else ""
        raise TrainingError(
            f"encoder {encoder}: {' '.join(lines)} {why}{named}.",
            to_fix=remedy_for_copies(),
        )


def leaking_copies(sections: pd.DataFrame) -> list[str]:
    """Return the test sections whose scans are, under another name, among those that are not kept for testing."""
    test = sections["role"].isin(_TEST_ROLES)
    seen = sections.loc[sections["role"].isin(["train", "validation"]), "digest"].dropna()
    leaking = sections[test & sections["digest"].isin(seen)]
    return [f"{brain}/{sample}" for brain, sample in zip(leaking["brain"], leaking["sample"], strict=True)]
