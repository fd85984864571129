"""Whether scores that stand side by side were measured on the same patches.

Two current results need not be: an encoder that was trained again knows sections that others do not know yet, and the
classes of a classifier decide which patches can be scored.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cytonet_pipeline.store import digest_array

COLUMNS = ("encoder", "protocol", "held_out", "split", "n_patches", "digest", "set")


def patch_sets(predictions: Mapping[tuple[str, str], pd.DataFrame], held_out: Mapping[str, str]) -> pd.DataFrame:
    """Number the sets of patches that encoders with the same held-out brain were scored on.

    Parameters
    ----------
    predictions : mapping
        `patch_id` and `split` of all scored patches, by encoder and protocol.
    held_out : mapping
        Held-out brain by encoder. With another one, other patches are meant.

    Returns
    -------
    DataFrame
        A row per encoder, protocol and split: `n_patches`, the `digest` of the patches, and `set`: from 1, the one of
        most rows first; 0 where all rows of that held-out brain and split have the same.
    """
    rows = []
    for (encoder, protocol), scored in predictions.items():
        for split, of_split in scored.groupby("split", sort=True):
            digest = digest_array(np.sort(of_split["patch_id"].to_numpy()))
            rows.append((encoder, protocol, held_out[encoder], str(split), len(of_split), digest, 0))
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    for _, of_group in found.groupby(["held_out", "split"], sort=True):
        digests = list(of_group["digest"].value_counts(sort=True).index)
        if len(digests) > 1:
            found.loc[of_group.index, "set"] = of_group["digest"].map(lambda d, order=digests: 1 + order.index(d))
    return found


def remarks_on(sets: pd.DataFrame) -> list[str]:
    """Return a sentence per held-out brain and split whose rows were not scored on the same patches."""
    remarks = []
    for (held_out, split), of_group in sets[sets["set"] > 0].groupby(["held_out", "split"], sort=True):
        parts = []
        for number, of_set in of_group.groupby("set", sort=True):
            encoders = ", ".join(
                f"{encoder} ({', '.join(rows['protocol'])})" for encoder, rows in of_set.groupby("encoder", sort=False)
            )
            parts.append(f"set {number}, {of_set['n_patches'].iloc[0]:,} patches: {encoders}")
        remarks.append(
            f"not scored on the same patches ({_TITLES[str(split)]}, held-out brain {held_out}), and not to be "
            f"compared across sets: {'; '.join(parts)}"
        )
    return remarks


_TITLES = {"seen_brains": "seen brains", "unseen_brain": "unseen brain"}
