"""What an encoder learned from its training sections; controls learn nothing from them."""

from typing import Any

import pandas as pd

from cytonet_pipeline.settings import TRAINED

# Method: of what in its patches it learns; for controls, why nothing.
_LEARNED = {
    "cytonet": "images and positions",
    "supcon": "images and annotated areas",
    "scratch": "images and annotated areas",
    "random": "its weights are random; only grey values and batch statistics are taken from training sections",
    "intensity": "its features are the grey values of the patch itself",
    "position": "its features are the positions of the patches in Colin-27; it reads no image",
}


def method_of(record: dict[str, Any]) -> str:
    """Return the method of the encoder that a `training_set.json` was written for; empty if it does not say."""
    return str(record.get("config", {}).get("encoder", {}).get("method", ""))


def learns(record: dict[str, Any]) -> bool:
    """Whether anything was learned from the training sections of a record."""
    return method_of(record) in TRAINED or not method_of(record)


def describe_learning(record: dict[str, Any], sections: pd.DataFrame) -> str:
    """Return one sentence on what an encoder learned from.

    Parameters
    ----------
    record : dict
        Its `training_set.json`.
    sections : DataFrame
        Its table `training_sections`, as stored.
    """
    what = _LEARNED.get(method_of(record), "images")
    if not learns(record):
        return f"learned nothing: {what}"
    seen = sections["n_training_patches"]
    return f"learned from {what} of {seen.sum()} patches of {(seen > 0).sum()} sections"


def learned_from_section(record: dict[str, Any], role: str, patches: int) -> str:
    """Return in a few words what an encoder learned from one section, in which it has a role."""
    if role == "inherited":
        return "through the weights that it continues from"
    if not learns(record):
        return "nothing (a control)"
    return f"{patches} patches" if patches else "nothing"
