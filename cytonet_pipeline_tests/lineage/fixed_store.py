"""A store of fixed numbers, and the versions that encoders get on it.

Nothing here is computed, painted or measured, so that versions depend on the settings and on the digest alone. Run as
a program, this prints experiments of all kinds with the version of each encoder. `versions_0_2_1.json` is what the
sources of 0.2.1 (commit b408e89) gave:

    git worktree add /tmp/earlier b408e89
    cd /tmp/earlier && PYTHONPATH=. python …/cytonet_pipeline_tests/lineage/fixed_store.py experiments
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from cytonet_pipeline.lineage import resolve_training_set
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, Verdict, table, write_stamp, write_table

BRAINS = ("B01", "B02", "B20")
SECTIONS, PATCHES = 24, 8

_PLAIN: dict[str, Any] = {"method": "cytonet", "working_pixel_um": 64}
_DATASET: dict[str, Any] = {"density_per_mm3": 0.5, "held_out": "B20"}
# Every key of an encoder with another value than its default, each in an entry of its own.
_ENCODERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "supcon": {"method": "supcon"},
    "scratch": {"method": "scratch"},
    "random": {"method": "random", "steps": 0},
    "intensity": {"method": "intensity", "steps": 0},
    "position": {"method": "position", "steps": 0},
    "backbone": {"backbone": "resnet50"},
    "working_pixel_um": {"working_pixel_um": 32},
    "held_out": {"held_out": "B01"},
    "samples": {"samples": 100},
    "brain_floor": {"samples": 100, "brain_floor": 0.9},
    "steps": {"steps": 7},
    "batch_size": {"batch_size": 32},
    "projection_dim": {"projection_dim": 64},
    "seed": {"seed": 3},
    "processes": {"processes": 4},
    "precision": {"precision": "bf16"},
    "activation_checkpointing": {"activation_checkpointing": True},
    "chunk_size": {"chunk_size": 16},
    "compile": {"compile": True},
    "loading": {"loading": "scans"},
    "loading_and_buffer": {"loading": "scans", "shuffle_buffer": 4096},
    "buffer_that_nothing_reads": {"shuffle_buffer": 4096},
    "workers": {"workers": 0},
    "checkpoint_every": {"checkpoint_every": 5},
    "watch_every": {"watch_every": 5},
    "retired": {"retired": True},
    "loss": {
        "loss": {
            "temperature": 0.2, "transfer": "exponential", "length_mm": 3.0, "anchor": "i", "self_term": True,
            "min_mass": 0.2, "distance": "mirrored", "same_brain_weight": 0.5, "drop_same_brain_mm": 1.0,
        }
    },
    "augmentation": {
        "augmentation": {
            "rotation": False, "flip": False, "crop_jitter_px": 1.0, "brightness": 0.1, "contrast": 0.1,
            "blur_px": 0.1, "noise": 0.1, "stain": 0.1,
        }
    },
    "optimizer": {
        "optimizer": {
            "name": "lars", "learning_rate": 0.1, "weight_decay": 0.1, "warmup_steps": 3, "clip_norm": 1.0,
        }
    },
}  # fmt: skip
# The same for the keys of the data set, seen by one encoder.
_DATASETS: dict[str, dict[str, Any]] = {
    "patch_um": {"patch_um": 2048},
    "density_per_mm3": {"density_per_mm3": 0.25},
    "sampling": {"sampling": "midline"},
    "held_out": {"held_out": "B02"},
    "gap_mm": {"gap_mm": 2.0},
    "test_share": {"test_share": 0.3},
    "test_blocks": {"test_blocks": 2},
    "validation_share": {"validation_share": 0.2},
    "stain": {"stain": "nissl"},
    "window": {"window": [10, 200]},
    "window_of_a_brain": {"window": {"B02": [10, 200]}},
    "quiet_minutes": {"quiet_minutes": 5},
    "allowed_roots": {"allowed_roots": ["/data"]},
    "seed": {"seed": 2},
}


def write_fixed_store(root: Path) -> Store:
    """Write three brains whose scans, transforms and patches are named by fixed digests and numbers."""
    store = Store(root)
    Verdict("ok", digest="reference").write(store.reference_space())
    for number, brain in enumerate(BRAINS):
        scans, transforms, index = store.section_scans(brain), store.colin27_transforms(brain), store.patch_index(brain)
        write_table(scans / "sections.parquet", _scans(brain), "section_scans")
        Verdict("ok", digest=f"scans of {brain}").write(scans)
        Verdict("ok", digest=f"transforms of {brain}").write(transforms)
        made_from = {
            f"{k:04d}": {"position_mm": 1.5 * k, "reach_mm": 0.25, "transform_digest": f"chain of {brain} {k}"}
            for k in range(SECTIONS)
        }
        write_table(index / "part-0.parquet", _index(brain, number), "patch_index", {"sections": made_from})
        Verdict("ok", digest="index").write(index)
        write_stamp(
            index,
            {"sections": f"scans of {brain}", "transforms": f"transforms of {brain}", "reference": "reference"},
        )
    return store


def versions(folder: Path, experiments: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the version of every encoder of some experiments on the fixed store, which is written to `folder`."""
    store = write_fixed_store(folder / "store")
    unseen = {
        block["held_out"]
        for content in experiments.values()
        for block in (content["dataset"], *content["encoders"].values())
        if "held_out" in block
    }
    for brain in sorted({*BRAINS, *unseen}):
        (folder / f"sub-{brain}").mkdir()
    (folder / "encoder.safetensors").write_bytes(b"weights of an ancestor")
    path = folder / "experiments.yaml"
    made: dict[str, dict[str, str]] = {}
    for name, content in experiments.items():
        path.write_text(yaml.safe_dump(content).replace("HERE", str(folder)))
        settings = Settings(data=folder, reference=folder, store=store.root, experiments_file=path)
        made[name] = {e: resolve_training_set(e, settings, store)[0].version for e in content["encoders"]}
    return made


def experiments_of_all_kinds(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the experiments files of a folder, and entries in which every key has another value than its default."""
    encoders = {name: {**_PLAIN, **keys} for name, keys in _ENCODERS.items()}
    encoders["init_from"] = {**_PLAIN, "init_from": "HERE/encoder.safetensors"}
    files = {path.name: yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))}
    datasets = {
        f"dataset.{name}": {"dataset": {**_DATASET, **keys}, "encoders": {"plain": _PLAIN}}
        for name, keys in _DATASETS.items()
    }
    return {**files, "encoder": {"dataset": _DATASET, "encoders": encoders}, **datasets}


def _scans(brain: str) -> pd.DataFrame:
    rows = pd.DataFrame(
        {
            "brain": brain,
            "sample": [f"{k:04d}" for k in range(SECTIONS)],
            "section": np.arange(SECTIONS),
            "path": [f"sub-{brain}/{k:04d}.tif" for k in range(SECTIONS)],
            "digest": [f"scan of {brain} {k}" for k in range(SECTIONS)],
            "pixel_um": 1.0,
            "mask_digest": [None if k % 4 == 3 else f"mask {k}" for k in range(SECTIONS)],
            "annotation_digest": [None if k % 3 == 2 else f"annotation {k}" for k in range(SECTIONS)],
            "status": "ok",
            "reason": "",
        }
    )
    return _filled(rows, "section_scans")


def _index(brain: str, number: int) -> pd.DataFrame:
    count = SECTIONS * PATCHES
    place = np.arange(count)
    rows = pd.DataFrame(
        {
            "patch_id": (place + number * count).astype(np.uint64),
            "brain": brain,
            "sample": [f"{k:04d}" for k in place // PATCHES],
            "section": place // PATCHES,
            "x_px": 100 * (place % PATCHES),
            "y_px": 50,
            "ref_x_mm": 0.5 * (place % PATCHES) + 8 * number,
            "ref_y_mm": 1.5 * (place // PATCHES),
            "ref_z_mm": 0.25 * number,
            "hemisphere": "R",
            "annotated_area": place % 5,
            "cortex_fraction": 1.0,
            "split": "train",
            "order": (place * 7919 % count).astype(np.uint64),
        }
    )
    return _filled(rows, "patch_index")


def _filled(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table with what the rows do not say as nothing or zero."""
    columns = table(name).columns
    missing = {c.name: None if c.nullable else 0 for c in columns if c.name not in rows}
    return rows.assign(**missing)[[c.name for c in columns]]


if __name__ == "__main__":
    content = experiments_of_all_kinds(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as temporary:
        json.dump({"experiments": content, "versions": versions(Path(temporary), content)}, sys.stdout, indent=1)
