"""A forgotten brain leaves nothing in the store: all files of a finished one are searched for its name and patches."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from cytonet_pipeline.errors import ConfigurationError, StoreError, TrainingError
from cytonet_pipeline.lineage import encoders_of
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import SECTION_SCANS, forgetting
from cytonet_pipeline.stages.forgetting import forget, plan_to_forget, readmit
from cytonet_pipeline.stages.holdings import holdings
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.store import Store, faults_in, read_record, write_json, write_text
from cytonet_pipeline.store.decisions import forgotten_brains

# One worker builds the finished run that these tests copy.
pytestmark = pytest.mark.xdist_group("ran")

# Records of what weights saw, and settings, may name a brain. They hold no data of it.
HELD_OUT_IN = re.compile(r"patch_index/brain=\w+/(_inputs.json|part-0.parquet)|umap/.*/inputs.json")
NAMED_IN = re.compile(r"store\.json|forgotten/.*|(training_sets|encoders)/.*\.jsonl?|encoders/.*/log\.txt")


@pytest.fixture
def settings(ran, tmp_path) -> Settings:
    """A copy of the finished store, with what killed runs and jobs leave."""
    store = tmp_path / "store"
    shutil.copytree(ran.settings.store, store)
    for leftover in (
        "umap/tiny_cytonet/.writing-abc/umap.parquet",
        "patch_index/.writing-brain=B02-abc/part-0.parquet",
    ):
        (store / leftover).parent.mkdir(parents=True)
        shutil.copyfile(store / "patch_index/brain=B02/part-0.parquet", store / leftover)
    write_text(store / "jobs/section_scans/B02/job/attempt-1/log.txt", "sub-B02_sample-1 …")
    return ran.settings.model_copy(update={"store": store})


@pytest.mark.parametrize("brain", ["B02", pytest.param("B20", marks=pytest.mark.long)])
def test_nothing_of_a_forgotten_brain_is_left(settings, brain):
    """A training brain, and the unseen one, which is in other places: no weights saw it."""
    store = store_of(settings)
    ids = patch_ids(store, brain)
    named, with_data = traces(store.root, brain, ids)
    assert len(named) > 20, "the search finds the brain before"
    assert len(with_data) > 10

    forget(settings, brain, "Ada")

    named, with_data = traces(store.root, brain, ids)
    seen = {weights.label for weights in plan_to_forget(settings, brain).weights}
    assert with_data == set()
    assert seen == (set() if brain == "B20" else {f"{n}@{v}" for n, v in versions(store) if n != "tiny_position"})
    # What says that weights saw the brain stays as long as they do; others name the unseen brain as a setting.
    lineage = {f"encoders/{label.replace('@', '/')}/sections.parquet" for label in seen}
    left = {path for path in named if not NAMED_IN.fullmatch(path)} - lineage
    assert all(brain == settings.experiments.dataset.held_out and HELD_OUT_IN.fullmatch(path) for path in left), left
    assert holdings(store, brain) == []


def test_weights_that_saw_it_go_on_a_further_word(settings):
    store, ids = store_of(settings), patch_ids(store_of(settings), "B02")
    others = len(patch_ids(store, "B01"))

    record = forget(settings, "B02", "Ada", with_weights=True)

    named, with_data = traces(store.root, "B02", ids)
    assert with_data == set()
    assert {path for path in named if not NAMED_IN.fullmatch(path)} == set()
    assert record.weights == ()
    assert {name for name, _ in versions(store)} == {"tiny_position"}, "learns nothing, so it saw nothing"
    assert store.current_version("tiny_cytonet") is None
    assert len(patch_ids(store, "B01")) == others


def test_the_plan_names_the_weights_and_changes_nothing(settings):
    store = store_of(settings)
    before = files(store.root)

    plan = plan_to_forget(settings, "B02")

    assert {weights.encoder for weights in plan.weights} == {"tiny_cytonet", "tiny_scratch"}
    assert all("trained on" in weights.how for weights in plan.weights)
    assert sum(holding.bytes for holding in plan.holdings) > 0
    assert files(store.root) == before


def test_the_other_brains_stay_current_and_what_weights_saw_is_still_answered(settings):
    forget(settings, "B02", "Ada")

    store = store_of(settings)
    assert SECTION_SCANS.is_current(settings, "B01")
    assert [f for name in store.encoders() for f in faults_in(store.current_encoder(name), digests=True)] == []
    sample = str(read_sections(store, "tiny_cytonet").iloc[0]["sample"])
    assert {use.encoder for use in encoders_of("B02", sample, store)} >= {"tiny_cytonet"}


@pytest.mark.parametrize("after", [pytest.param(0, marks=pytest.mark.long), 9])
def test_a_killed_run_is_continued_and_takes_nothing_in_meanwhile(settings, after):
    class Killed(BaseException):
        pass

    deleted = []

    def count(holding):
        deleted.append(holding)
        if len(deleted) > after:
            raise Killed

    store, ids = store_of(settings), patch_ids(store_of(settings), "B02")
    with pytest.raises(Killed):
        forget(settings, "B02", "Ada", report=count)
    assert not forgotten_brains(store)["B02"].finished
    with pytest.raises(StoreError, match="forgotten"):
        SECTION_SCANS.run(settings, "B02")

    record = forget(settings, "B02", "Grace")

    assert (record.finished, record.by) == (True, "Ada"), "the first decision counts"
    written = read_record(settings.store / "forgotten/B02.json")
    assert set(written) == {"schema_version", "brain", "by", "date", "finished", "weights", "readmitted"}
    assert traces(store.root, "B02", ids)[1] == set()


def test_it_is_not_ingested_again_until_the_word_is_taken_back(settings):
    forget(settings, "B02", "Ada")
    with pytest.raises(StoreError, match=r"forgotten on .* by Ada") as refused:
        SECTION_SCANS.run(settings, "B02")
    assert "--undo" in str(refused.value)
    assert not store_of(settings).section_scans("B02").exists()

    readmit(settings, "B02", "Grace")
    SECTION_SCANS.run(settings, "B02")

    assert SECTION_SCANS.is_current(settings, "B02")
    assert "by Grace" in read_record(settings.store / "forgotten/B02.json")["readmitted"]
    with pytest.raises(ConfigurationError, match="not been forgotten"):
        readmit(settings, "B02", "Grace")


def test_a_training_run_at_work_on_it_is_not_pulled_from_under(settings, monkeypatch):
    """Its job would fail half-way, or write the brain's data again."""
    store = store_of(settings)
    folder = store.encoder("tiny_cytonet", store.current_version("tiny_cytonet"))
    (folder / "encoder.json").unlink()
    running = type("Attempt", (), {"number": 2, "label": "job 17", "place": folder / "job/attempt-2"})()
    launcher = type("Launcher", (), {"running": lambda self, place: running})()
    monkeypatch.setattr("cytonet_pipeline.cluster.launchers.launcher_of", lambda *_: launcher)

    with pytest.raises(TrainingError, match="job 17"):
        forget(settings, "B02", "Ada")
    assert store.patch_index("B02").exists()
    assert forgotten_brains(store) == {}


def test_an_evaluation_without_a_readable_stamp_goes_too(settings):
    """In doubt it was made with the brain; it can be made again."""
    store = store_of(settings)
    version = str(store.current_version("tiny_cytonet"))
    shutil.rmtree(store.patch_embeddings("tiny_cytonet", version))
    for kind in (store.linear_probes, store.umap):
        for stamp in kind("tiny_cytonet", version).rglob("*inputs.json"):
            stamp.write_text("{")

    forget(settings, "B02", "Ada")

    assert not store.umap("tiny_cytonet", version).exists()
    assert not store.area_maps("tiny_cytonet", version).exists()


def test_a_brain_whose_name_begins_like_another_s_is_left_alone(settings):
    store = store_of(settings)
    write_json(store.section_scans("B021") / "_status.json", {})

    forget(settings, "B02", "Ada")

    assert (store.section_scans("B021") / "_status.json").exists()


def test_what_cannot_be_deleted_is_said_and_the_brain_stays_out(settings, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(forgetting.shutil, "rmtree", refuse)
    with pytest.raises(StoreError, match="not forgotten completely"):
        forget(settings, "B02", "Ada")
    assert not forgotten_brains(store_of(settings))["B02"].finished


def read_sections(store: Store, encoder: str):
    rows = pyarrow.parquet.read_table(
        store.current_encoder(encoder) / "sections.parquet", partitioning=None
    ).to_pandas()
    return rows[rows["brain"] == "B02"]


def versions(store: Store) -> list[tuple[str, str]]:
    return [(encoder, version) for encoder in store.encoders() for version in store.encoder_versions(encoder)]


def patch_ids(store: Store, brain: str) -> np.ndarray:
    parts = sorted(store.patch_index(brain).glob("part-*.parquet"))
    return np.concatenate([pyarrow.parquet.read_table(p, partitioning=None)["patch_id"].to_numpy() for p in parts])


def files(root: Path) -> dict[str, int]:
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}


def traces(root: Path, brain: str, ids: np.ndarray) -> tuple[set[str], set[str]]:
    """Find the files that name a brain, in their path, text or tables, and those that hold one of its patch ids."""
    name = re.compile(rb"(?<![A-Za-z0-9])" + brain.encode() + rb"(?![A-Za-z0-9])")
    search, named, with_data = Search(ids), set(), set()
    for path in (p for p in sorted(root.rglob("*")) if p.is_file()):
        relative = str(path.relative_to(root))
        for content in (relative.encode(), *contents(path)):
            if brain.encode() in content and name.search(content):
                named.add(relative)
            if search.finds_in(content):
                with_data.add(relative)
    return named, with_data


def contents(path: Path) -> list[bytes]:
    """A file's bytes, or those of what is compressed in it."""
    if path.suffix == ".parquet":
        stream = io.BytesIO()
        rows = pyarrow.parquet.read_table(path, partitioning=None)
        pyarrow.parquet.write_table(rows, stream, compression="none", use_dictionary=False)
        return [stream.getvalue()]
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return [arrays[name].tobytes() for name in arrays.files]
    return [path.read_bytes()]


class Search:
    """A search for patch ids in bytes, as numbers at any offset or as text."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids, self.texts = np.sort(ids.astype(np.uint64)), {str(i).encode() for i in ids}
        # By 24 of their bits first: what then is left to compare is next to nothing.
        self.may_be = np.zeros(2**24, bool)
        self.may_be[self.ids & np.uint64(0xFFFFFF)] = True

    def finds_in(self, content: bytes) -> bool:
        for offset in range(min(8, max(0, len(content) - 7))):
            words = np.frombuffer(content, np.uint64, (len(content) - offset) // 8, offset)
            candidates = words[self.may_be[words & np.uint64(0xFFFFFF)]]
            if candidates.size and np.isin(candidates, self.ids).any():
                return True
        # Weights and pictures have no text.
        return b"\0" not in content and any(number in self.texts for number in re.findall(rb"\d{12,20}", content))
