"""Describing in words what differs between two training sets."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from cytonet_pipeline.lineage.training_set import TrainingSet, read_training_set, resolve_training_set
from cytonet_pipeline.settings import EncoderBlock, Settings
from cytonet_pipeline.store import Store

_CHANGES = {
    "role": "role",
    "digest": "scan",
    "pixel_um": "pixel size",
    "window_low": "window",
    "window_high": "window",
    "mask_digest": "mask",
    "annotation_digest": "annotation",
    "transform_digest": "transform",
    "patches_digest": "patches",
}
# More sections than these are counted, not named.
_MOST_NAMED = 8
_PLAIN = (str, bool, int, float, type(None))


def compare(a: TrainingSet, b: TrainingSet) -> list[str]:
    """Describe the differences from `a` to `b`: brains and sections added, removed or changed, patches, settings, code.

    Returns
    -------
    list of str
        One readable line per difference; empty if an encoder would see exactly the same.
    """
    lines = list(_sections(a.sections, b.sections))
    lines += _counts(a.record.get("patches_by_role", {}), b.record.get("patches_by_role", {}))
    if not lines and a.record.get("patch_ids_digest") != b.record.get("patch_ids_digest"):
        lines.append("patches: other ones, as many")
    before, after = (_flat(_with_defaults(t.record.get("config", {}))) for t in (a, b))
    keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    lines += [f"setting {key}: {before.get(key)} → {after.get(key)}" for key in keys]
    if a.record.get("code_version") != b.record.get("code_version"):
        lines.append(f"code version: {a.record.get('code_version')} → {b.record.get('code_version')}")
    if (old := _initial_weights(a)) != (new := _initial_weights(b)):
        lines.append(f"initial weights: {old} → {new}")
    return lines


def would_change(encoder: str, settings: Settings, store: Store) -> list[str] | None:
    """Describe how training now would differ from the current version.

    Returns
    -------
    list of str or None
        Differences as in `compare`; empty if the version would be the same; None if the encoder has never been
        trained.

    Raises
    ------
    TrainingError
        Nothing could be trained now.
    """
    version = store.current_version(encoder)
    if version is None:
        return None
    now, _ = resolve_training_set(encoder, settings, store)
    if now.version == version:
        return []
    return compare(read_training_set(store, version), now) or ["digests differ"]


def _sections(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[str]:
    before, after = (frame.set_index(["brain", "sample"]).sort_index() for frame in (a, b))
    yield from _in_one_only("added", after, before)
    yield from _in_one_only("removed", before, after)
    both = before.index.intersection(after.index)
    old, new = before.loc[both], after.loc[both]
    reported: set[tuple[str, tuple[str, str]]] = set()
    for column, word in _CHANGES.items():
        differs = ~((old[column] == new[column]) | (old[column].isna() & new[column].isna()))
        changed = [key for key in both[differs.to_numpy()] if (word, key) not in reported]
        reported.update((word, key) for key in changed)
        for brain, keys in _by_brain(changed).items():
            yield from _changed(brain, keys, word, old[column], new[column])


def _in_one_only(word: str, here: pd.DataFrame, there: pd.DataFrame) -> Iterator[str]:
    """Describe sections that are in one table only; a whole brain in one line."""
    brains = set(there.index.get_level_values("brain"))
    role_of = dict(zip(here.index, here["role"], strict=True))
    for brain, keys in _by_brain(list(here.index.difference(there.index))).items():
        if brain not in brains:
            roles = ", ".join(f"{n} {role}" for role, n in sorted(Counter(role_of[key] for key in keys).items()))
            yield f"brain {brain} {word}: {len(keys)} sections ({roles})"
        elif len(keys) > _MOST_NAMED:
            yield f"{brain}: {len(keys)} sections {word}"
        else:
            yield from (f"section {'/'.join(key)} {word} ({role_of[key]})" for key in keys)


def _changed(brain: str, keys: list[tuple[str, str]], word: str, old: pd.Series, new: pd.Series) -> Iterator[str]:
    if len(keys) > _MOST_NAMED:
        yield f"{brain}: {word} of {len(keys)} sections changed"
        return
    for key in keys:
        values = f": {old[key]} → {new[key]}" if word in {"role", "pixel size"} else ""
        yield f"section {'/'.join(key)}: {word} changed{values}"


def _by_brain(keys: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    grouped: dict[str, list[tuple[str, str]]] = {}
    for key in keys:
        grouped.setdefault(key[0], []).append(key)
    return grouped


def _counts(before: dict[str, int], after: dict[str, int]) -> list[str]:
    roles = [role for role in sorted({*before, *after}) if before.get(role, 0) != after.get(role, 0)]
    return [f"{role} patches: {before.get(role, 0):,} → {after.get(role, 0):,}" for role in roles]


def _initial_weights(training_set: TrainingSet) -> str:
    given = training_set.record.get("init_from")
    if given is None:
        return "random"
    named = f"{given['encoder']}@{given['version']}" if given["encoder"] else given["path"]
    return f"{named} (weights {given['digest']})"


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of keys that did not exist when the record was written."""
    if "encoder" not in config:
        return config
    defaults = {key: f.default for key, f in EncoderBlock.model_fields.items() if isinstance(f.default, _PLAIN)}
    return {**config, "encoder": {**defaults, **config["encoder"]}}


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
