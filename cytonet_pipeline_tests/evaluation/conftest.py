"""A small store as the earlier stages leave it: three brains with an index, an encoder, and features of its patches.

Features are Gaussian classes, so that the correct result of a probe is known.
"""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from cytonet_pipeline.evaluation.features.embedding_store import write_embeddings
from cytonet_pipeline.evaluation.probes import runner
from cytonet_pipeline.patches import order_of, patch_ids, write_index
from cytonet_pipeline.reporting import metrics_figure, retrieval_figure
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import LINEAR_PROBE
from cytonet_pipeline.store import Store, read_table, table, write_record, write_stamp, write_table

ENCODER, VERSION = "made_up", "0123456789abcdef"
AREAS = {1: "4a", 2: "4p", 3: "3b", 7: "hOc1", 8: "only in B20"}
SECTIONS, SPACING_MM, PATCHES_PER_SECTION = 40, 1.5, 20


def index_of(brain, random):
    """A brain's index: sections along y, areas 1, 2, 3 and 7 (and 8 in B20), a tenth without annotation."""
    n = SECTIONS * PATCHES_PER_SECTION
    section = np.repeat(np.arange(SECTIONS), PATCHES_PER_SECTION)
    x_px, y_px = random.permutation(5000)[:n], random.integers(0, 5000, n)
    areas = random.choice([0, 1, 2, 3, 7] + ([8] if brain == "B20" else []), n)
    frame = pd.DataFrame({"brain": brain, "sample": [f"{s:04d}" for s in section], "section": section})
    frame["x_px"], frame["y_px"] = x_px, y_px
    frame["patch_id"] = np.concatenate(
        [patch_ids(brain, s, g["x_px"].to_numpy(), g["y_px"].to_numpy()) for s, g in frame.groupby("sample")]
    )
    position_mm = section * SPACING_MM
    for space in ("brain", "ref"):
        frame[f"{space}_x_mm"], frame[f"{space}_z_mm"] = x_px / 100 - 25, y_px / 100
        frame[f"{space}_y_mm"] = position_mm
    frame["hemisphere"] = np.where(frame["ref_x_mm"] < 0, "L", "R")
    frame["annotated_area"] = frame["atlas_area"] = areas
    frame["cortex_fraction"], frame["depth"] = 0.8, 0.5
    frame["obliquity_deg"] = random.uniform(0, 90, n)
    frame["split"] = "unseen_brain" if brain == "B20" else "train"
    frame["order"] = order_of(frame["patch_id"].to_numpy(), 0)
    frame.attrs = {
        "sections": {f"{s:04d}": {"position_mm": s * SPACING_MM} for s in range(SECTIONS)},
        "left_out": 0,
    }
    return frame


def sections_of(brain):
    """Roles: a test block, a validation block and gaps in seen brains."""
    number = np.arange(SECTIONS)
    role = np.select(
        [number < 10, number == 10, (number > 20) & (number < 28), number == 20, number == 28],
        ["seen_brains", "gap", "validation", "gap", "gap"],
        "train",
    )
    frame = pd.DataFrame({"brain": brain, "sample": [f"{s:04d}" for s in number], "section": number})
    frame["role"] = "unseen_brain" if brain == "B20" else role
    frame["n_patches"], frame["n_training_patches"] = PATCHES_PER_SECTION, np.where(frame["role"] == "train", 20, 0)
    frame["path"] = [f"sub-{brain}/micr/{s}.tif" for s in frame["sample"]]
    frame["pixel_um"], frame["window_low"], frame["window_high"] = 64.0, np.nan, np.nan
    for name in ("digest", "mask_digest", "annotation_digest", "transform_digest", "patches_digest"):
        frame[name] = "0" * 16
    return frame[[c.name for c in table("training_sections").columns]]


DISTANCES_MM = pd.DataFrame(
    [[0, 10, 20, np.nan], [10, 0, 5, np.nan], [20, 5, 0, np.nan], [np.nan] * 4],
    index=[1, 2, 3, 7],
    columns=[1, 2, 3, 7],
)


@pytest.fixture(scope="session")
def _made_once(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def _probed_once(_made_once, tmp_path_factory):
    """Distances in the reference have their own tests in `registration`; the reference folder is empty here."""
    probed = copied(_made_once, tmp_path_factory.mktemp("probed"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runner, "medoid_distances_mm", lambda folder, store: DISTANCES_MM)
        LINEAR_PROBE.run(probed.settings, ENCODER)
    return probed


@pytest.fixture
def made(_made_once, tmp_path):
    """A store, its settings, and the index rows of all brains; a copy that a test may change."""
    return copied(_made_once, tmp_path)


@pytest.fixture
def probed(_probed_once, tmp_path, monkeypatch):
    """The same after the probes of the made-up encoder have been run; pictures of the table are blank."""
    monkeypatch.setattr(runner, "medoid_distances_mm", lambda folder, store: DISTANCES_MM)
    for module, name in ((metrics_figure, "metrics_figure"), (retrieval_figure, "retrieval_figure")):
        monkeypatch.setattr(module, name, lambda rows, path, marks=None: Image.new("L", (8, 8)).save(path))
    probed = copied(_probed_once, tmp_path)
    probed.folder = probed.store.linear_probes(ENCODER, VERSION)
    probed.metrics = read_table(probed.folder / "metrics.parquet", "metrics")
    return probed


def copied(made, folder):
    """The same data set and store in another folder."""
    shutil.copytree(made.settings.store.parent, folder, dirs_exist_ok=True)
    settings = settings_in(folder)
    return SimpleNamespace(store=Store(settings.store), settings=settings, indices=dict(made.indices))


def settings_in(folder):
    return Settings(
        data=folder / "brains",
        reference=folder / "reference",
        store=folder / "store",
        experiments_file=folder / "experiments.yaml",
    )


def make(tmp_path):
    """Write the data set, the store and the experiments file."""
    data = tmp_path / "brains"
    (data / "derivatives/annotation").mkdir(parents=True)
    for brain in ("B01", "B02", "B20"):
        (data / f"sub-{brain}/micr").mkdir(parents=True)
    write_record(data / "dataset_description.json", {"Name": "Made up"})
    names = pd.DataFrame({"index": list(AREAS), "name": list(AREAS.values())})
    names.to_csv(data / "derivatives/annotation/desc-areas_dseg.tsv", sep="\t", index=False)
    experiments = {
        "dataset": {"density_per_mm3": 1.0, "held_out": "B20"},
        "encoders": {ENCODER: {"method": "cytonet", "working_pixel_um": 64}, "not_yet": {
            "method": "random", "working_pixel_um": 64}},
        "evaluation": {
            "epochs": [30], "labels_per_area": [5, 20], "draws": 2, "bootstrap": 50, "umap_every": 5,
            "samples_per_area": 150, "learning_rates": [0.1, 1.0], "logistic_c": [0.1, 1.0],
        },
    }  # fmt: skip
    settings = settings_in(tmp_path)
    settings.experiments_file.write_text(yaml.safe_dump(experiments))
    store, random = Store(settings.store), np.random.default_rng(0)
    indices = {brain: index_of(brain, random) for brain in ("B01", "B02", "B20")}
    for brain, index in indices.items():
        write_index(store.patch_index(brain), index, settings.experiments.dataset.model_dump(mode="json"))
    add_encoder(store, ENCODER, indices, spread=1.0)
    return SimpleNamespace(store=store, settings=settings, indices=indices)


def add_encoder(store, encoder, indices, *, spread):
    """An encoder with features of every patch: its area's centre plus noise of width `spread`."""
    folder = store.encoder(encoder, VERSION)
    write_table(folder / "sections.parquet", pd.concat([sections_of(b) for b in indices]), "training_sections")
    store.point_current(encoder, VERSION)
    centres = np.random.default_rng(1).normal(size=(9, 12))
    random = np.random.default_rng(2)
    for brain, index in indices.items():
        features = centres[index["annotated_area"]] + spread * random.normal(size=(len(index), 12))
        part = store.patch_embeddings(encoder, VERSION, brain)
        write_embeddings(part / "part-0.parquet", index["patch_id"].to_numpy(), features, encoder, VERSION)
        write_stamp(part, {})


@pytest.fixture
def predictions():
    """Two brains with 36 scored sections, in six runs."""
    random = np.random.default_rng(1)
    sections = [
        (brain, f"{start + i}", start + 0.3 * i) for brain in ("B01", "B02") for start in (0, 20, 40) for i in range(12)
    ]
    rows = [sections[i] for i in random.integers(0, len(sections), 1500)]
    frame = pd.DataFrame(rows, columns=["brain", "sample", "position_mm"])
    area = random.integers(1, 6, len(frame))
    frame["area"], frame["patch_id"], frame["split"] = area, np.arange(len(frame)).astype(np.uint64), "seen_brains"
    frame["predicted_area"] = np.where(random.random(len(frame)) < 0.7, area, random.integers(1, 6, len(frame)))
    frame["in_top"] = True
    return frame
