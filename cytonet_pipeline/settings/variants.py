"""Entries that stand for several encoders: one per combination of the values of the keys that have a list.

    scratch: {method: scratch, labels_per_area: [1, 10, all], labels_draw: [0, 1], seed: [0, 1], …}

stands for `scratch_seed0_n1_draw0`, `scratch_seed0_n1_draw1`, …, `scratch_seed1_nall`. A name depends on the values of
its own encoder alone: a longer list leaves the names that are there as they are.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cytonet_pipeline.names import bare_brain

# Keys that may have a list, in the order in which their values stand in a name, and what stands before the value.
# Labels come last: a name without them is that of the row which all label counts share in the table of results.
_WORDS = {
    "held_out": "without_",
    "samples": "samples",
    "steps": "steps",
    "seed": "seed",
    "labels_per_area": "n",
    "labels_draw": "draw",
}
_NAME = re.compile(r"[A-Za-z0-9_]+")
_ALL = "all"


def expand_entries(entries: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the entries of an experiments file with one for each encoder that those with lists stand for.

    Anything that is not an entry with a list stays as it is, for whatever checks it next.

    Raises
    ------
    ValueError
        A list is empty or has a value twice or one that cannot stand in a name, or two encoders get the same name.
    """
    expanded: dict[Any, Any] = {}
    made_by: dict[Any, Any] = {}
    for name, entry in entries.items():
        for variant, block in _variants(name, entry):
            if variant in expanded:
                raise ValueError(
                    f"{variant}: both {made_by[variant]} and {name} stand for an encoder of this name; rename one"
                )
            expanded[variant], made_by[variant] = block, name
    return expanded


def row_name(encoder: str, labels_per_area: int, draw: int) -> str:
    """Return the name that an encoder shares with those of other label counts and draws.

    Parameters
    ----------
    labels_per_area : int
        Labels that it was trained on; 0: all.
    """
    count = f"_{_WORDS['labels_per_area']}{labels_per_area or _ALL}"
    for suffix in (f"{count}_{_WORDS['labels_draw']}{draw}", count):
        if encoder.endswith(suffix) and encoder != suffix:
            return encoder.removesuffix(suffix)
    return encoder


def _variants(name: Any, entry: Any) -> Iterator[tuple[Any, Any]]:
    lists = {key: entry[key] for key in _WORDS if isinstance(entry.get(key), list)} if isinstance(entry, dict) else {}
    if not lists:
        yield name, entry
        return
    if "labels_draw" in lists:
        # A draw without its count would be no name of a row.
        lists = {key: lists.get(key, [entry.get(key)]) for key in _WORDS if key in lists or key == "labels_per_area"}
    _require_values(name, lists)
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        block = {**entry, **chosen}
        if _word(chosen.get("labels_per_area", 1)) == _ALL:
            # All labels are drawn in one way only.
            if chosen.pop("labels_draw", None) != lists.get("labels_draw", [None])[0]:
                continue
            block.pop("labels_draw", None)
        yield "_".join([str(name), *(f"{_WORDS[key]}{_word(value)}" for key, value in chosen.items())]), block


def _require_values(name: Any, lists: Mapping[str, list[Any]]) -> None:
    for key, values in lists.items():
        words = [_word(value) for value in values]
        if not words:
            raise ValueError(f"{name}.{key}: an empty list stands for no encoder; leave the key out or give values")
        for value, word in zip(values, words, strict=True):
            if isinstance(value, bool) or not isinstance(value, int | str | None) or not _NAME.fullmatch(word):
                raise ValueError(
                    f"{name}.{key}: {value!r} cannot stand in a name of an encoder; a number or a name can"
                )
        if repeated := sorted({word for word in words if words.count(word) > 1}):
            raise ValueError(f"{name}.{key}: each value once; {', '.join(repeated)} is given more than once")
    if "labels_draw" in lists and all(_word(count) == _ALL for count in lists["labels_per_area"]):
        raise ValueError(
            f"{name}.labels_draw: draws differ in which labels are taken, and all labels are; give labels_per_area too"
        )


def _word(value: Any) -> str:
    return _ALL if value is None else bare_brain(str(value))
