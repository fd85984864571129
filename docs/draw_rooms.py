"""Draw the rooms of the package and their imports: docs/pictures/rooms.png.

    python docs/draw_rooms.py

Rooms stand in the order in which data passes them. An arc is an import from a lower room to a higher one; its width is
the number of modules that have one. Counted anew at each call, by grimp (which import-linter brings along).
"""

from collections import Counter
from pathlib import Path

import grimp
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "cytonet_pipeline"
# Name, and what it is for.
ROOMS = {
    "errors, settings, progress …": "loose modules that nearly every room uses",
    "store": "where results lie: paths, atomic writes, locks, table contracts",
    "dataset": "a BIDS data set or section tables → brains, sections, faults",
    "histology": "scans: a module per format; patches, annotations, quality",
    "registration": "point transforms to Colin-27, reference space, surfaces",
    "patches": "sampling of the cortex, the patch index, splits",
    "lineage": "training sets: what an encoder may see, compared and queried",
    "learning": "losses, backbones, data loading, the training loop",
    "evaluation": "features, probes, metrics, embedding analysis, maps",
    "reporting": "figures, tables and pages as files",
    "cluster": "jobs on this machine and on Slurm",
    "stages": "what each asset is, without Dagster",
    "defs": "what Dagster sees",
    "phantom": "synthetic brains in the input format",
    "cli, definitions": "the command line and the code location",
}
LOOSE, TOP = "errors, settings, progress …", "cli, definitions"


def room_of(module: str) -> str:
    """Return the room of a module by its full name."""
    first = module.split(".")[1] if "." in module else ""
    if first in {"cli", "definitions"}:
        return TOP
    return first if first in ROOMS else LOOSE


def main() -> None:
    """Count and draw."""
    graph = grimp.build_graph(PACKAGE)
    modules = [name for name in graph.modules if (ROOT / (name.replace(".", "/") + ".py")).exists()]
    lines: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for path in (ROOT / PACKAGE).rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        lines[room_of(name)] += len(path.read_text(encoding="utf-8").splitlines())
        files[room_of(name)] += 1
    imports: Counter[tuple[str, str]] = Counter()
    for module in modules:
        rooms = {room_of(target) for target in graph.find_modules_directly_imported_by(module)}
        imports.update((room_of(module), room) for room in rooms - {room_of(module)})
    draw(lines, files, imports)


def draw(lines: "Counter[str]", files: "Counter[str]", imports: "Counter[tuple[str, str]]") -> None:
    """Draw rooms from top to bottom, and their imports as arcs at the right."""
    figure, axes = plt.subplots(figsize=(11, 9.5))
    height = {room: len(ROOMS) - row for row, room in enumerate(ROOMS)}
    for room, purpose in ROOMS.items():
        y = height[room]
        box = FancyBboxPatch(
            (0, y - 0.34), 6.6, 0.68, boxstyle="round,pad=0.02", facecolor="#eef3f8", edgecolor="#4a6a8a"
        )
        axes.add_patch(box)
        axes.text(0.12, y + 0.12, room, fontsize=11, fontweight="bold", va="center", color="#1d3347")
        axes.text(0.12, y - 0.16, purpose, fontsize=8.5, va="center", color="#3c4a57")
        axes.text(6.5, y + 0.12, f"{files[room]} files, {lines[room]:,} lines", fontsize=8, va="center", ha="right")
    for (source, target), count in imports.items():
        start, end = height[source], height[target]
        upward = end > start
        arc = FancyArrowPatch(
            (6.65, start), (6.65, end), connectionstyle=f"arc3,rad={0.55 if upward else -0.55}", arrowstyle="-|>",
            mutation_scale=8, linewidth=0.4 + 0.12 * count, color="#4a6a8a" if upward else "#c0392b", alpha=0.55,
        )  # fmt: skip
        axes.add_patch(arc)
    axes.set_xlim(-0.1, 11.2)
    axes.set_ylim(0.4, len(ROOMS) + 0.6)
    axes.axis("off")
    axes.text(
        11.1, 0.5, "arc: import from a room below; width: importing modules", ha="right", fontsize=8, color="#3c4a57"
    )
    figure.tight_layout()
    figure.savefig(ROOT / "docs/pictures/rooms.png", dpi=110)


if __name__ == "__main__":
    main()
