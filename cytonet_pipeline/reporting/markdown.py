"""Pictures and tables as Markdown, for places that show only text: run pages, reports, the terminal.

A picture is a PNG in a `data:` URL. Viewers cut off long values, so it is made smaller until it fits.
"""

import base64
import io
import math
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from cytonet_pipeline.markup import in_markdown
from cytonet_pipeline.reporting.style import without_mathtext
from cytonet_pipeline.scores import SCORES

_SHRINK = 0.8
_MIN_PX = 64
# What the window for Markdown has room for on a screen of 1366 pixels; it is cut off at the right beyond that.
_MAX_WIDTH_PX = 1000


def picture(source: Path | Figure, max_bytes: int = 200_000, alt: str = "") -> str:
    """Return a picture as one line of Markdown.

    Parameters
    ----------
    source : Path or Figure
        An image file that Pillow reads, or a figure.
    max_bytes : int
        Maximum length of the whole line. Colours are reduced first (to 256), then the size.

    Raises
    ------
    ValueError
        Not even a thumbnail fits.
    """
    prefix, suffix = f"![{_as_alt(alt or _name_of(source))}](data:image/png;base64,", ")"
    room = max_bytes - len(prefix.encode()) - len(suffix)
    ready = _ready_made(source)
    if ready and len(ready) <= room:
        return prefix + ready + suffix
    image = _image_of(source)
    # Encoding pixels that will be shrunk anyway takes most of the time.
    image.thumbnail((_MAX_WIDTH_PX, _MAX_WIDTH_PX))
    while True:
        text = _encoded(image)
        if len(text) > room:
            text = _encoded(image.quantize(256, method=Image.Quantize.FASTOCTREE))
        if len(text) <= room:
            return prefix + text + suffix
        # The size of a PNG is roughly proportional to its pixels: one step gets most of the way.
        scale = min(_SHRINK, math.sqrt(max(room, 1) / len(text)))
        if min(image.size) * scale < _MIN_PX:
            raise ValueError(f"no picture of {_MIN_PX} px fits into {max_bytes} bytes")
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def metrics_markdown(table: pd.DataFrame, scores: tuple[str, ...] = ("macro_f1", "accuracy", "top5_accuracy")) -> str:
    """Return the table of results as Markdown: one line per encoder and protocol, seen beside unseen.

    Parameters
    ----------
    table : DataFrame
        Table `metrics`. Draws of one protocol are averaged; an interval is shown where there is one draw.
    scores : tuple of str
        Names of scores to show.
    """
    unknown = set(scores) - set(SCORES)
    if unknown:
        raise ValueError(f"no such scores: {sorted(unknown)}")
    header = ["encoder", "protocol", "labels per area"]
    header += [f"{SCORES[score].title}, {split}" for score in scores for split in ("seen", "unseen")]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * 3 + " ---: |" * (2 * len(scores))]
    for (encoder, protocol, labels), rows in table.groupby(["encoder", "protocol", "labels_per_area"], sort=True):
        cells = [in_markdown(str(encoder)), str(protocol), str(labels) if labels else "all"]
        cells += [_score(rows[rows["split"] == s], score) for score in scores for s in ("seen_brains", "unseen_brain")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def retrieval_markdown(rows: pd.DataFrame) -> str:
    """Return the rows of retrieval of one or more encoders as Markdown: median mm, its bounds and the queries."""
    lines = ["| encoder | retrieval | split | median mm | best mm | chance mm | queries |"]
    lines.append("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for row in rows.to_dict("records"):
        sought = str(row["protocol"]).removeprefix("retrieval_").replace("_", " ")
        values = [row[f"retrieval{name}_mm"] for name in ("", "_best", "_chance")]
        cells = [in_markdown(str(row["encoder"])), sought, str(row["split"]).replace("_", " ")]
        cells += ["–" if pd.isna(value) else f"{value:.1f}" for value in values]
        lines.append("| " + " | ".join([*cells, str(row["n_patches"])]) + " |")
    return "\n".join(lines)


def _score(rows: pd.DataFrame, score: str) -> str:
    values = rows[score].dropna()
    if values.empty:
        return "–"
    if len(values) > 1:
        return f"{values.mean():.3f} ± {values.std():.3f} ({len(values)} draws)"
    low, high = rows.loc[values.index[0], [f"{score}_low", f"{score}_high"]]
    interval = "" if pd.isna(low) or pd.isna(high) else f" ({low:.3f}–{high:.3f})"
    return f"{values.iloc[0]:.3f}{interval}"


def _ready_made(source: Path | Figure) -> str:
    """Return a PNG file unchanged, encoded as base64, if it is no wider than an asset page; else an empty string.

    Encoding it again would only make it longer.
    """
    if not isinstance(source, Path) or source.suffix != ".png":
        return ""
    with Image.open(source) as image:
        if image.format != "PNG" or image.width > _MAX_WIDTH_PX:
            return ""
    return base64.b64encode(source.read_bytes()).decode("ascii")


def _image_of(source: Path | Figure) -> Image.Image:
    if isinstance(source, Figure):
        stream = io.BytesIO()
        without_mathtext(source).savefig(stream, format="png", dpi=120)
        return Image.open(stream).convert("RGB")
    with Image.open(source) as image:
        return image.convert("RGB")


def _name_of(source: Path | Figure) -> str:
    if isinstance(source, Path):
        return source.stem
    return source.get_suptitle()


def _as_alt(name: str) -> str:
    return in_markdown(name.replace("[", "(").replace("]", ")"))


def _encoded(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, format="PNG", compress_level=6)
    return base64.b64encode(stream.getvalue()).decode("ascii")
