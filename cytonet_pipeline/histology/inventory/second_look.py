"""Sections that an earlier release took in and this one might refuse: they are examined again.

Since 0.2.1 a scan that is light on dark, one that uses a small part of its range, and a mask without a single 0 are
refused or flagged. Stored rows say nothing of that, but the stored thumbnail and one tile of the mask give the sections
away that must be looked at; all others keep their rows.
"""

import numpy as np

from cytonet_pipeline.dataset import Brain, Section
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.registry import open_reader
from cytonet_pipeline.histology.inventory.reuse import Inventory
from cytonet_pipeline.histology.quality.intensity import may_be_light_on_dark, may_use_few_values
from cytonet_pipeline.settings import DatasetBlock

# Labels are thinned when they are read, so that few zeros may be lost.
_FEW_ZEROS = 1 / 16


def sections_to_examine_again(inventory: Inventory, brain: Brain, block: DatasetBlock) -> list[str]:
    """List the samples of an inventory of an earlier release that this one might not take in as they were.

    Parameters
    ----------
    inventory : Inventory
        What the earlier release made; its thumbnails are looked at, and no scan is opened.
    """
    sections = {section.sample: section for section in brain.sections}
    return [
        str(row["sample"])
        for row, picture in inventory.known().values()
        if row["sample"] in sections
        and (
            may_be_light_on_dark(picture)
            or may_use_few_values(picture, row["bits"], block.window_of(brain.name))
            or _mask_may_lack_zeros(sections[row["sample"]])
        )
    ]


def without(inventory: Inventory, samples: list[str]) -> Inventory:
    """Return an inventory without some of its sections."""
    pictures = {sample: picture for sample, picture in inventory.pictures.items() if sample not in samples}
    return Inventory(inventory.rows[~inventory.rows["sample"].isin(samples)], pictures)


def _mask_may_lack_zeros(section: Section) -> bool:
    """Tell by its first tile whether a mask may call all of a scan cortex; without a mask, no."""
    if section.mask is None or section.mask_value is not None:
        return False
    try:
        tile = open_reader(section.mask).mask_level().chunk(0, 0)
    except (ScanError, OSError):
        return True
    return tile is not None and float(np.mean(tile == 0)) < _FEW_ZEROS
