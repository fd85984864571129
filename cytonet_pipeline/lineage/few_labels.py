"""The training patches of an encoder that is trained on a few labels per area.

They are those that the probe of every other encoder gets at the same number and in the same draw: drawn from the same
rows by the same function (`patches.labels`).
"""

from dataclasses import dataclass, field

import pandas as pd

from cytonet_pipeline.errors import TrainingError
from cytonet_pipeline.patches import labelled_rows, labels_of_draw, split_for_training
from cytonet_pipeline.settings import EncoderBlock


@dataclass(frozen=True)
class DrawnLabels:
    """What was drawn for an encoder.

    Attributes
    ----------
    patches : DataFrame
        The drawn patches in role `train`, and in role `validation` those that decide on its schedule: patches of
        validation sections and, where these are too few, of training sections that are set aside.
    counts : dict
        Number of drawn patches by area.
    chosen_on : str
        Where the patches that decide on the schedule come from, see `patches.split_for_training`.
    """

    patches: pd.DataFrame
    counts: dict[int, int] = field(default_factory=dict)
    chosen_on: str = "training"


def draw_labels(encoder: str, patches: pd.DataFrame, block: EncoderBlock, samples_per_area: int) -> DrawnLabels:
    """Draw the labels of an encoder.

    Parameters
    ----------
    patches : DataFrame
        All patches of training and validation sections, with `role`.
    samples_per_area : int
        At most this many annotated patches per area are drawn from, as in the probes.

    Raises
    ------
    TrainingError
        Fewer than two areas have a label, or the batch is so small that SupCon would hardly see two patches of an area.
    """
    count = block.labels_per_area or 0
    rows = patches[labelled_rows(patches, samples_per_area)].reset_index(names="row")
    train, chosen, source = split_for_training(rows)
    drawn = rows[train][labels_of_draw(rows[train], count, block.labels_draw)]
    of_area = drawn["annotated_area"].value_counts().sort_index()
    if len(of_area) < 2:
        raise TrainingError(
            f"encoder {encoder}: {len(of_area)} annotated areas in its training sections, and two are needed to learn "
            "to tell areas apart.",
            to_fix="annotate more sections (derivatives/annotation) of brains other than the unseen one",
            meanwhile="encoders that need no labels go on",
        )
    _require_positives(encoder, block, of_area)
    beside = patches[patches["role"] == "validation"]
    if source == "carved":
        set_aside = patches.loc[rows["row"][chosen]].assign(role="validation")
        beside = pd.concat([beside, set_aside])
    kept = pd.concat([patches.loc[drawn["row"]], beside]).sort_index()
    return DrawnLabels(kept, dict(zip(of_area.index.tolist(), of_area.tolist(), strict=True)), source)


def label_warnings(drawn: DrawnLabels, block: EncoderBlock) -> list[str]:
    """Return what is to be known of a draw: areas with fewer labels, patches that repeat, and how SupCon gets pairs."""
    wanted, total = block.labels_per_area or 0, sum(drawn.counts.values())
    warnings = []
    if fewer := {area: n for area, n in drawn.counts.items() if n < wanted}:
        areas = ", ".join(f"area {area}: {n}" for area, n in fewer.items())
        warnings.append(f"{len(fewer)} areas have fewer than {wanted} labels ({areas})")
    warnings += repetition(block, total)
    if block.method == "supcon" and max(drawn.counts.values()) == 1:
        warnings.append("one label per area: what attracts in SupCon are augmentations of the same patch")
    if drawn.chosen_on == "carved":
        warnings.append("validation sections cover too few areas: training sections are set aside to choose the step")
    if drawn.chosen_on == "training":
        warnings.append("no section can be spared to choose the step: the last one is taken")
    return warnings


def repetition(block: EncoderBlock, n_labelled: int) -> list[str]:
    """Return the sentence on patches that a batch holds repeatedly; nothing if it holds each once at the most."""
    if block.labels_per_area is None or block.batch_size <= n_labelled:
        return []
    return [
        f"a batch of {block.batch_size} is larger than the {n_labelled} labelled patches: it has patches repeatedly, "
        "each time with another augmentation"
    ]


def _require_positives(encoder: str, block: EncoderBlock, of_area: "pd.Series[int]") -> None:
    """Refuse SupCon where a batch has about one patch per area: without pairs there is nothing to learn from."""
    total = int(of_area.sum())
    if block.method != "supcon" or of_area.max() > 1 or block.batch_size >= 2 * total:
        return
    raise TrainingError(
        f"encoder {encoder}: SupCon learns from pairs of patches of one area; with one label per area these are "
        f"augmentations of the same patch, and a batch of {block.batch_size} has hardly any of {total} patches.",
        to_fix=f"raise batch_size to {2 * total} or more, or labels_per_area to 2 or more",
        meanwhile="the other encoders go on",
    )
