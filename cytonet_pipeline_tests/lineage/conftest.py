"""A store with three flat brains as the brain assets would leave it, and settings with a few encoders."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from cytonet_pipeline.patches import build_index, write_index
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store, Verdict, digest_of, write_stamp, write_table
from cytonet_pipeline_tests.patches.slab import Slab, slab_brain

EXPERIMENTS: dict[str, Any] = {
    "dataset": {"patch_um": 2000, "density_per_mm3": 1, "held_out": "B20"},
    "encoders": {
        "one": {"method": "cytonet", "working_pixel_um": 64},
        "small": {"method": "cytonet", "working_pixel_um": 64, "samples": 500},
        "labelled": {"method": "supcon", "working_pixel_um": 64},
        "other": {"method": "cytonet", "working_pixel_um": 64, "held_out": "B01"},
    },
}


@dataclass
class World:
    """What a test changes: the store, the experiments, and the brains that were brought in."""

    folder: Path
    experiments: dict[str, Any]
    slabs: dict[str, Slab] = field(default_factory=dict)
    ingest: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    @property
    def settings(self) -> Settings:
        path = self.folder / "experiments.yaml"
        path.write_text(yaml.safe_dump(self.experiments))
        return Settings(
            data=self.folder, reference=self.folder, store=self.store.root, experiments_file=path, cluster="local"
        )

    def bring_in(self, name: str, sections: int = 12, spacing_mm: float = 2.0) -> None:
        """Do for a brain what its three assets do."""
        if name not in self.slabs:
            (self.folder / name).mkdir()
            self.release(name)
            self.slabs[name] = slab_brain(self.folder / name, [k * spacing_mm for k in range(sections)], name=name)
        self.survey(name)
        self.index(name)

    def release(self, name: str, ingest: str = "ready") -> None:
        """Do for a brain what its owner does in the data set: put it there, and say whether it may be used."""
        (self.folder / f"sub-{name}").mkdir(exist_ok=True)
        self.ingest[name] = ingest
        rows = "".join(f"sub-{brain}\t{word}\n" for brain, word in self.ingest.items())
        (self.folder / "participants.tsv").write_text(f"participant_id\tingest\n{rows}")

    def survey(self, name: str) -> None:
        slab, store = self.slabs[name], self.store
        write_table(store.section_scans(name) / "sections.parquet", slab.sections, "section_scans")
        rows = slab.sections.astype(object).where(slab.sections.notna(), None).to_dict("list")
        Verdict("ok", digest=digest_of(rows)).write(store.section_scans(name))
        Verdict("ok", digest=slab.chain.digest).write(store.colin27_transforms(name))
        Verdict("ok", digest=slab.reference.digest).write(store.reference_space())

    def index(self, name: str) -> None:
        block, folder = self.settings.experiments.dataset, self.store.patch_index(name)
        write_index(folder, build_index(*self.slabs[name].arguments(block)), block.model_dump(mode="json"))
        Verdict("ok", digest="index").write(folder)
        stamp = {"sections": self.store.section_scans(name), "transforms": self.store.colin27_transforms(name)}
        digests = {key: Verdict.read(place).digest for key, place in stamp.items()}
        write_stamp(folder, {**digests, "reference": Verdict.read(self.store.reference_space()).digest})


def write_sections(folder: Path, rows: pd.DataFrame) -> None:
    """Give a training set or encoder other sections, as an earlier version left them: without a stamp of its files."""
    (folder / "inputs.json").unlink(missing_ok=True)
    write_table(folder / "sections.parquet", rows, "training_sections")


@pytest.fixture
def new_world(tmp_path) -> Callable[[str], World]:
    def make(name: str) -> World:
        (tmp_path / name).mkdir()
        return World(tmp_path / name, copy.deepcopy(EXPERIMENTS))

    return make


@pytest.fixture(scope="session")
def built_once(tmp_path_factory) -> World:
    made = World(tmp_path_factory.mktemp("built"), copy.deepcopy(EXPERIMENTS))
    for name in ("B01", "B02", "B20"):
        made.bring_in(name)
    return made


@pytest.fixture
def world(new_world, built_once) -> World:
    """A copy of one that was built once; its scans stay where they are."""
    made = new_world("world")
    shutil.copytree(built_once.store.root, made.store.root)
    for name in built_once.slabs:
        made.release(name)
    made.slabs = {name: replace(s, sections=s.sections.copy()) for name, s in built_once.slabs.items()}
    return made
