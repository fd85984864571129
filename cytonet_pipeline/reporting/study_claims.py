"""The poster's statements beside what the study measured: what does not hold comes first."""

import pandas as pd

from cytonet_pipeline.reporting.study_rows import budgets, label_efficiency

FAILS, OPEN, HOLDS = "does not hold", "open", "holds"
_COLUMNS = ("statement", "measured", "verdict")
_SIGNIFICANT = 0.05
# Below this, a change of macro F1 is no more than between seeds.
_SEEDS = 0.02
# A ratio of single numbers nearer to 1 decides nothing.
_RATIOS = 0.1


def claims(rows: pd.DataFrame, comparisons: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Judge the statements that the table has rows for.

    Parameters
    ----------
    rows : DataFrame
        As `study_rows.described` gives them.
    comparisons : DataFrame
        Table `comparisons`.
    observed : DataFrame
        As `study_rows.observations` gives them.

    Returns
    -------
    DataFrame
        `statement`, `measured`, `verdict`; those that do not hold first.
    """
    found = [
        *_pairs(rows, comparisons),
        *_few_labels(rows, comparisons),
        *_tissue(rows),
        *_observations(rows, observed),
    ]
    order = (FAILS, OPEN, HOLDS)
    return pd.DataFrame(sorted(found, key=lambda each: order.index(each[-1])), columns=list(_COLUMNS))


def _pairs(rows: pd.DataFrame, comparisons: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Judge CytoNet against each other method with all labels on the unseen brain, by paired test."""
    main = rows[rows["main"] & (rows["seed"] == 0) & ~rows["few"]].drop_duplicates("encoder")
    method_of = dict(zip(main["encoder"], main["method"], strict=True))
    chosen = comparisons[
        (comparisons["measure"] == "macro_f1") & (comparisons["protocol"] == "linear_E30")
        & (comparisons["split"] == "unseen_brain") & (comparisons["labels_per_area"] == 0)
    ]  # fmt: skip
    found = []
    for pair in chosen.to_dict("records"):
        methods = [method_of.get(pair["encoder_a"]), method_of.get(pair["encoder_b"])]
        if "cytonet" not in methods or None in methods or methods[0] == methods[1]:
            continue
        sign = 1 if methods[0] == "cytonet" else -1
        other = methods[1] if sign > 0 else methods[0]
        difference, p = sign * pair["difference"], pair["p_holm"]
        measured = f"{difference:+.3f}, " + ("no interval" if pd.isna(p) else f"p = {p:.3g}")
        clear = pd.notna(p) and p < _SIGNIFICANT
        verdict = OPEN if not clear else HOLDS if difference > 0 else FAILS
        found.append((f"unseen brain, all labels, E30: CytoNet is ahead of {other}", measured, verdict))
    return found


def _few_labels(rows: pd.DataFrame, comparisons: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Judge CytoNet against supervised training at each number of labels.

    By the paired tests of every draw, seed 0; without any by whether the ranges overlap.
    """
    points = label_efficiency(rows)
    unseen = points[points["split"] == "unseen_brain"]
    found = []
    for labels in sorted(set(unseen["labels"]) - {0}):
        at = unseen[unseen["labels"] == labels].set_index("method")
        for other in ("scratch", "supcon"):
            if "cytonet" not in at.index or other not in at.index:
                continue
            ours, theirs = at.loc["cytonet"], at.loc[other]
            measured = f"{ours['value']:.3f} against {theirs['value']:.3f}"
            signs = _signs_of_draws(rows, comparisons, other, int(labels))
            if signs:
                ahead, behind = (signs.count(sign) for sign in (1, -1))
                measured += f"; p < {_SIGNIFICANT:g}: ahead in {ahead}, behind in {behind} of {len(signs)} draws"
                verdict = HOLDS if ahead == len(signs) else FAILS if behind == len(signs) else OPEN
            else:
                verdict = _by_ranges(ours, theirs)
            found.append((f"unseen brain, {labels} labels per area: CytoNet is ahead of {other} trained on them",
                          measured, verdict))  # fmt: skip
    return found


def _signs_of_draws(rows: pd.DataFrame, comparisons: pd.DataFrame, other: str, labels: int) -> list[int]:
    """Return the outcome of each draw's paired test: 1 where CytoNet is ahead, −1 behind, 0 not significant."""
    main = rows[rows["main"] & (rows["seed"] == 0)]
    ours = set(main.loc[main["method"] == "cytonet", "encoder"])
    theirs = set(main.loc[(main["method"] == other) & (main["trained_labels"] == labels), "encoder"])
    tested = comparisons[
        (comparisons["measure"] == "macro_f1") & (comparisons["split"] == "unseen_brain")
        & (comparisons["labels_per_area"] == labels) & comparisons["p_holm"].notna()
    ]  # fmt: skip
    signs = []
    for pair in tested.to_dict("records"):
        one, two = pair["encoder_a"], pair["encoder_b"]
        sign = 1 if one in ours and two in theirs else -1 if two in ours and one in theirs else 0
        if sign:
            clear = pair["p_holm"] < _SIGNIFICANT
            signs.append((1 if sign * pair["difference"] > 0 else -1) if clear else 0)
    return signs


def _by_ranges(ours: pd.Series, theirs: pd.Series) -> str:
    """Judge by whether the ranges overlap; open where a single draw has none."""
    if pd.isna(ours["high"]) or pd.isna(theirs["high"]):
        return OPEN
    return HOLDS if ours["low"] > theirs["high"] else FAILS if ours["high"] < theirs["low"] else OPEN


def _tissue(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Judge whether more patches and more steps help CytoNet on the unseen brain."""
    table = budgets(rows)
    ours = table[table["method"] == "cytonet"] if len(table) else table
    found = []
    for fixed, varied, name in (("steps", "pretrain_samples", "patches"), ("pretrain_samples", "steps", "steps")):
        for value, group in ours.groupby(fixed) if len(ours) else ():
            if len(group) < 2:
                continue
            line = group.sort_values(varied)
            scores = line["macro_f1_unseen_brain"]
            gain = float(scores.iloc[-1] - scores.iloc[-2])
            ends = " → ".join(f"{n:,}: {f1:.3f}" for n, f1 in zip(line[varied], scores, strict=True))
            verdict = HOLDS if gain > _SEEDS else FAILS if gain < -_SEEDS else OPEN
            found.append(
                (f"more {name} still help CytoNet ({value:,} {fixed.removeprefix('pretrain_')})", ends, verdict)
            )
    return found


def _observations(rows: pd.DataFrame, observed: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Judge the separation of brains and the step at the central sulcus in CytoNet's features, over its seeds."""
    names = rows.loc[rows["main"] & (rows["method"] == "cytonet"), "encoder"]
    ours = observed[observed["encoder"].isin(names)] if len(observed) else observed
    if ours.empty:
        return []
    excess, centred = ours["same-brain neighbours over chance"], ours["brain means removed"]
    ratios = {
        "brains separate in feature space: same-brain neighbours over chance": excess,
        "less after removing each brain's mean: before over after": excess / centred,
        "the step at the central sulcus is larger than at other sulci: ratio": ours["central sulcus over other sulci"],
    }
    known = {statement: values.dropna() for statement, values in ratios.items()}
    return [(name, _range_of(values), _above_one(values)) for name, values in known.items() if len(values)]


def _range_of(values: pd.Series) -> str:
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}"


def _above_one(ratios: pd.Series) -> str:
    """Judge a ratio that has no interval: by a tenth in every seed, or open."""
    return HOLDS if ratios.min() > 1 + _RATIOS else FAILS if ratios.max() < 1 - _RATIOS else OPEN
