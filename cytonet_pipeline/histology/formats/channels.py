"""Which channels are the colours of one picture: one rule for TIFFs and OME-Zarr.

Three channels of a brightfield scan are red, green and blue, unless their names or display colours say otherwise:
fluorescence has channels too.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from cytonet_pipeline.errors import ScanError

COLOURS = 3
_RED_GREEN_BLUE = (("red", "r"), ("green", "g"), ("blue", "b"))
# Names that writers give on their own.
_MEANINGLESS = re.compile(r"((channel|ch|c|image)?[ :_-]*\d*([:_-]\d+)*)?", re.IGNORECASE)


def require_colours(count: int, names: Sequence[str], shades: Sequence[str], path: Path) -> None:
    """Check that `count` channels are grey values, or red, green and blue.

    Parameters
    ----------
    names : sequence of str
        What the file calls them, if it does.
    shades : sequence of str
        Colours in which they are shown, as six hexadecimal digits each, if the file gives them.

    Raises
    ------
    ScanError
        They are something else.
    """
    to_fix = "export the scan as grey values or RGB"
    if count not in (1, COLOURS):
        raise ScanError(f"{path}: {count} channels are not read.", to_fix=to_fix)
    if count == 1:
        return
    labels = [name.strip().lower() for name in names]
    if any(not _MEANINGLESS.fullmatch(name) for name in labels):
        if len(labels) != COLOURS or not all(n in known for n, known in zip(labels, _RED_GREEN_BLUE, strict=True)):
            raise ScanError(
                f"{path}: its three channels are {', '.join(names)}, not red, green and blue.", to_fix=to_fix
            )
        return
    pure = [shade.upper() for shade in shades]
    if sorted(pure) == ["0000FF", "00FF00", "FF0000"] and pure != ["FF0000", "00FF00", "0000FF"]:
        raise ScanError(
            f"{path}: its three channels are shown in {', '.join(pure)}, not red, green and blue.", to_fix=to_fix
        )
