"""The lineage of an encoder as an HTML page, complete in itself: from sections to maps, each brain as a strip."""

import base64
import html
import io
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cytonet_pipeline.store import write_text

# Roles as the page names and colours them; in the order of the legend.
ROLES = {
    "train": ("training", "#2f7d4f"),
    "validation": ("validation", "#2f6fb0"),
    "seen_brains": ("test", "#d98a1f"),
    "unseen_brain": ("unseen brain", "#7a4fa3"),
    "gap": ("gap", "#aab3bb"),
}
_TEMPLATE = Path(__file__).with_name("lineage_page.html")
_THUMBNAIL_PX = 96
# The whole page has to stay under 15 MB; what the sections leave of it is for thumbnails (bytes).
_MOST_BYTES = 14_000_000


@dataclass(frozen=True)
class Box:
    """A step of the picture at the top.

    Attributes
    ----------
    title : str
    lines : sequence of str
        What it is made of; empty if it is not there yet.
    """

    title: str
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class LineagePage:
    """What the page shows.

    Attributes
    ----------
    title, learned, made : str
        `demo_cytonet@8505…`, what it learned from, and when the page was made.
    notes : sequence of str
        What has to be known before anything else: a pinned version, say.
    steps : sequence of sequence of Box
        From left to right; several boxes of one step stand below each other.
    sections : DataFrame
        Table `training_sections`, with what has happened `since`; in the order of the series.
    thumbnails : mapping
        (H, W) uint8 by (brain, sample), as far as there are any.
    """

    title: str
    learned: str
    made: str
    notes: Sequence[str]
    steps: Sequence[Sequence[Box]]
    sections: pd.DataFrame
    thumbnails: Mapping[tuple[str, str], np.ndarray]


def write_lineage_page(path: Path, page: LineagePage) -> Path:
    """Write the page; it opens without a network, and text from data sets is never markup in it."""
    texts = sorted({text for text in page.sections["since"] if text})
    brains = [_brain(str(name), rows, texts) for name, rows in page.sections.groupby("brain", sort=True)]
    _add_thumbnails(brains, page.thumbnails, _MOST_BYTES - len(json.dumps([brains, texts])))
    counts = page.sections["role"].value_counts()
    data = {
        "roles": [
            {"key": key, "title": title, "color": color, "count": int(counts.get(key, 0))}
            for key, (title, color) in ROLES.items()
        ],
        "texts": texts,
        "changed": int((page.sections["since"] != "").sum()),
        "brains": brains,
    }
    text = string.Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(page.title),
        learned=html.escape(page.learned),
        made=html.escape(page.made),
        notes="".join(f"<p><b>{html.escape(note)}</b></p>" for note in page.notes),
        flow='<div class="arrow">→</div>'.join(_step(boxes) for boxes in page.steps),
        data=_in_script(data),
    )
    write_text(path, text)
    return path


def _step(boxes: Sequence[Box]) -> str:
    return f'<div class="many">{"".join(_box(box) for box in boxes)}</div>'


def _box(box: Box) -> str:
    lines = "".join(f"<div>{html.escape(line)}</div>" for line in box.lines) or "<div>not computed</div>"
    return f'<div class="box{"" if box.lines else " missing"}"><b>{html.escape(box.title)}</b>{lines}</div>'


def _brain(name: str, rows: pd.DataFrame, texts: Sequence[str]) -> dict[str, Any]:
    """Return the sections of a brain in short: a role is its place in the legend, a text its place in the list."""
    ordered = rows.sort_values(["section", "sample"])
    place = {role: str(index) for index, role in enumerate(ROLES)}
    return {
        "name": name,
        "samples": [str(sample) for sample in ordered["sample"]],
        "roles": "".join(place[role] for role in ordered["role"]),
        "patches": [int(n) for n in ordered["n_training_patches"]],
        "since": {str(i): texts.index(text) for i, text in enumerate(ordered["since"]) if text},
        "thumbs": {},
    }


def _add_thumbnails(brains: list[dict[str, Any]], pictures: Mapping[tuple[str, str], np.ndarray], room: int) -> None:
    """Add pictures of sections while there is room (bytes), and say of how many brains' sections there is none."""
    for brain in brains:
        for place, sample in enumerate(brain["samples"]):
            picture = pictures.get((brain["name"], sample))
            if picture is None or room <= 0:
                continue
            url = "data:image/jpeg;base64," + base64.b64encode(_jpeg(picture)).decode()
            room -= len(url)
            brain["thumbs"][str(place)] = url
        without = len(brain["samples"]) - len(brain["thumbs"])
        brain["note"] = f"{without} without a picture" if without else ""


def _jpeg(picture: np.ndarray) -> bytes:
    image = Image.fromarray(picture)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    stream = io.BytesIO()
    image.save(stream, "jpeg", quality=70)
    return stream.getvalue()


def _in_script(data: Any) -> str:
    """Return JSON that cannot end the element it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
