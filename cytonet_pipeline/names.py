"""How people spell brains, sections and encoders, and which known names are near one that is unknown.

Inside the pipeline a brain is `B20` and a section `1786`. Wherever a person writes one (tables, settings, commands),
the prefixes of BIDS are accepted: `sub-B20`, `sample-1786`.
"""

import difflib
from collections.abc import Iterable

_MOST_LISTED = 12
_MOST_NEAR = 3


def bare(name: str, prefix: str) -> str:
    """Remove `sub-` or `sample-` from a name."""
    return name.strip().removeprefix(f"{prefix}-")


def bare_brain(name: str) -> str:
    """Return the name of a brain as tables have it: without `sub-`."""
    return bare(name, "sub")


def split_section(text: str) -> tuple[str, str] | None:
    """Split a section as people write it, `B02/4058` or `sub-B02/sample-4058`, into brain and sample.

    Returns
    -------
    (brain, sample) or None
        None if it is not one name on either side of a slash.
    """
    brain, slash, sample = text.partition("/")
    pair = bare_brain(brain), bare(sample, "sample")
    return pair if slash and all(pair) and "/" not in sample else None


def describe_known(name: str, known: Iterable[str]) -> str:
    """Return which names there are, for the message on one that there is not: the near ones, else all.

    Case does not count: `b02` is near to `B02`. It is not taken for it: a data set may have both.
    """
    names = sorted(set(known))
    if not names:
        return "it has none"
    near = _near(name, names)
    if near:
        return f"near it: {', '.join(near)}"
    listed = ", ".join(names[:_MOST_LISTED])
    return f"it has {listed}" + (f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else "")


def _near(name: str, names: list[str]) -> list[str]:
    folded: dict[str, list[str]] = {}
    for known in names:
        folded.setdefault(known.casefold(), []).append(known)
    matches = difflib.get_close_matches(name.casefold(), folded, n=_MOST_NEAR, cutoff=0.6)
    return [known for match in matches for known in folded[match]]
