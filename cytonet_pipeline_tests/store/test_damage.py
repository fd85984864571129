"""Every kind of file in a finished store: damaged, it is noticed, or it is a by-product that is made again."""

import json
import re
import shutil

import pytest

from cytonet_pipeline.cli.doctor import examine_store
from cytonet_pipeline.errors import CytonetError, DamagedResult, TrainingError
from cytonet_pipeline.evaluation.embedding_analysis.surface_map import read_func
from cytonet_pipeline.evaluation.features.embedding_store import read_embeddings
from cytonet_pipeline.evaluation.maps.label_volume import read_volume
from cytonet_pipeline.evaluation.probes.heads import LinearHead
from cytonet_pipeline.histology.inventory.reuse import read_inventory
from cytonet_pipeline.learning.backbones.encoders import load_encoder
from cytonet_pipeline.learning.folder import EncoderFolder
from cytonet_pipeline.lineage import read_training_set
from cytonet_pipeline.patches import read_index
from cytonet_pipeline.registration import BrainChain
from cytonet_pipeline.stages import ENCODER, PATCH_EMBEDDINGS, PATCH_INDEX, STAGES, TRAINING_SET, UMAP_PLOTS
from cytonet_pipeline.stages.pending import brains_to_ingest, encoders_to_train
from cytonet_pipeline.store import Store, Verdict, open_store, read_record, read_table, verified
from cytonet_pipeline.store.seals import begin_taking_over, is_sealed, pointers_in
from cytonet_pipeline_tests.conftest import PROJECT, cytonet

BRAIN, NAME = "B01", "tiny_cytonet"
PARTITIONS = {"brain": (BRAIN, "B02", "B20"), "encoder": (NAME, "tiny_scratch", "tiny_position"), None: (None,)}
# What docs/store.md calls by-products.
BY_PRODUCTS = (
    r"packed/|lineage/|jobs/|encoders/\w+/V/(checkpoints|job)/|encoders/\w+/V/progress\.json|linear_probes/\.area"
)
POINTERS = ("store.json", "current.json", *(f"{name}.json" for name in PARTITIONS["encoder"]))


@pytest.fixture
def finished(ran, tmp_path):
    """Settings with a copy of the store that a finished pipeline has left."""
    shutil.copytree(ran.settings.store, tmp_path / "store")
    return ran.settings.model_copy(update={"store": tmp_path / "store"})


def one_of_each_kind(root):
    """Paths that differ only in names of brains, encoders, sections, protocols and versions are of one kind."""
    kinds = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        kind = re.sub(r"[0-9a-f]{16}", "V", str(path.relative_to(root)))
        if not re.match(BY_PRODUCTS, kind) and path.stat().st_size:
            kinds.setdefault(re.sub(r"B\d\d|tiny_(cytonet|scratch|position)|sample-\d+|_n?\d+\b", "*", kind), path)
    return list(kinds.values())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(path):
    path.unlink()


# Truncation differs from a flip in its size alone.
DAMAGES = [flip, remove, pytest.param(truncate, marks=pytest.mark.long)]


def current(settings):
    """Return (asset, partition) of every result that need not be made or drawn again."""
    return {
        (stage.name, partition)
        for stage in STAGES.values()
        for partition in PARTITIONS[stage.partition_set]
        if stage.is_current(settings, partition) and stage.is_drawn(settings, partition)
    }


@pytest.mark.parametrize("of", ["files", "stamps", "pointers"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_kind_of_damaged_file_is_found_and_gives_no_encoder_another_version(finished, damage, of):
    """Damage that is taken for a change of the data would have everything trained again."""
    kinds = one_of_each_kind(finished.store)
    stamps = [path for path in kinds if path.name.endswith("inputs.json")]
    pointers = [path for path in kinds if path.name in POINTERS]
    files = [path for path in kinds if path not in {*stamps, *pointers}]
    assert min(len(stamps), len(pointers), len(files) - 40) > 2
    chosen = {"files": files, "stamps": stamps, "pointers": pointers}[of]
    lost = {path for path in chosen if damage is remove and path.name in POINTERS}
    for path in chosen:
        damage(path)

    stale_by_size = current(finished)
    found = "\n".join(observation.text for observation in examine_store(finished) if observation.bad)

    assert [str(path) for path in chosen if f"{path}: " not in found and path not in lost] == []
    assert len([line for line in found.splitlines() if "to fix" in line]) >= len(set(chosen) - lost)
    # A pointer that is not there is one that was never set: an encoder that was never put into use.
    assert set(encoders_to_train(finished).inputs) <= ({NAME} if lost else set())
    brains_to_ingest(finished)
    assert current(finished) <= stale_by_size


def readers(settings):
    """Files of a store, each with what reads it."""
    store, version = Store(settings.store), ENCODER.folder(settings, NAME).name
    folder, probes = EncoderFolder(store.encoder(NAME, version)), store.linear_probes(NAME, version)
    umap, maps = store.umap(NAME, version), store.area_maps(NAME, version)
    head = next(probes.glob("*/probe.safetensors"))
    volume, func = next(maps.glob("*_dseg.nii.gz")), next(umap.glob("*.func.gii"))
    index, grid = store.patch_index(BRAIN), next(maps.glob("*_grid.parquet"))
    features = store.patch_embeddings(NAME, version, BRAIN)
    sections = store.section_scans(BRAIN) / "sections.parquet"
    return {
        store.reference_space() / "status.json": lambda: Verdict.read(store.reference_space()),
        sections: lambda: read_table(sections, "section_scans"),
        store.colin27_transforms(BRAIN) / "chain.json": lambda: BrainChain.read(store.colin27_transforms(BRAIN)),
        index / "part-0.parquet": lambda: read_index(store, BRAIN, columns=["patch_id"]),
        index / "_status.json": lambda: Verdict.read(index),
        store.training_set(version) / "training_set.json": lambda: read_training_set(store, version),
        folder.weights: lambda: load_encoder(folder.path),
        folder.record: lambda: read_record(folder.record),
        folder.path / "config.json": lambda: folder.config,
        folder.path / "sections.parquet": lambda: folder.sections,
        folder.path / "patches.parquet": lambda: folder.patches,
        folder.history: lambda: read_table(folder.history, "history"),
        features / "part-0.parquet": lambda: read_embeddings(store, NAME, version),
        head: lambda: LinearHead.read(head),
        head.with_name("predictions.parquet"): lambda: read_table(head.with_name("predictions.parquet"), "predictions"),
        head.with_name("probe.json"): lambda: read_record(head.with_name("probe.json")),
        probes / "metrics.parquet": lambda: read_table(probes / "metrics.parquet", "metrics"),
        probes / "retrieval/metrics.parquet": lambda: read_table(probes / "retrieval/metrics.parquet", "metrics"),
        umap / "umap.parquet": lambda: read_table(umap / "umap.parquet", "umap"),
        umap / "figures.json": lambda: read_record(umap / "figures.json"),
        func: lambda: read_func(func),
        volume: lambda: read_volume(volume),
        grid: lambda: read_table(grid, "map_grid"),
        store.metrics() / "metrics.md": lambda: verified(store.metrics() / "metrics.md"),
    }


@pytest.mark.parametrize("damage", DAMAGES)
def test_who_reads_a_damaged_file_names_it_with_its_remedy_and_its_step_is_stale(finished, damage):
    for path, read in readers(finished).items():
        if damage is remove and path.name == "training_set.json":
            continue  # The folder of the encoder that was trained on it has it too.
        damage(path)
        with pytest.raises(CytonetError, match=re.escape(path.name)) as caught:
            read()
        assert "cytonet run" in caught.value.to_fix, path
    assert {name for name, partition in current(finished) if partition in (BRAIN, NAME, None)} == set()


def test_a_file_without_a_digest_that_cannot_be_read_is_marked(finished):
    """Of a store of 0.2.1: what cannot be parsed is damaged, and the advised run makes it again."""
    path = PATCH_INDEX.folder(finished, BRAIN) / "part-0.parquet"
    stamp = path.with_name("_inputs.json")
    as_0_2_1_wrote(stamp)
    whole = path.read_bytes()
    truncate(path)
    assert PATCH_INDEX.is_current(finished, BRAIN)

    with pytest.raises(DamagedResult, match=r"part-0\.parquet"):
        read_index(Store(finished.store), BRAIN)

    assert not PATCH_INDEX.is_current(finished, BRAIN)
    path.write_bytes(whole)
    assert PATCH_INDEX.is_current(finished, BRAIN)


def as_0_2_1_wrote(stamp):
    content = json.loads(stamp.read_text())
    stamp.write_text(json.dumps({key: value for key, value in content.items() if not key.startswith("_")}))


def lose_seal(pointer):
    content = json.loads(pointer.read_text())
    del content["seal"]
    pointer.write_text(json.dumps(content))


def test_a_claim_without_its_digest_is_no_store_of_0_2_1(finished):
    """Unless a take-over was killed before it came to `store.json`."""
    lose_seal(finished.store / "store.json")
    with pytest.raises(DamagedResult, match="its digest is missing"):
        open_store(finished)
    for pointer in pointers_in(finished.store)[:-1]:
        lose_seal(pointer)
    with pytest.raises(DamagedResult, match="its digest is missing"):
        open_store(finished)

    begin_taking_over(finished.store)
    open_store(finished)

    assert all(is_sealed(pointer) for pointer in pointers_in(finished.store))
    lose_seal(finished.store / "store.json")
    with pytest.raises(DamagedResult, match="its digest is missing"):
        open_store(finished)


def test_a_store_of_0_2_1_is_digested_once(finished, caplog):
    root = finished.store
    before = current(finished)
    for stamp in root.rglob("*inputs.json"):
        as_0_2_1_wrote(stamp)
    for folder in (ENCODER.folder(finished, NAME), TRAINING_SET.folder(finished, NAME)):
        (folder / "inputs.json").unlink()
    features = PATCH_EMBEDDINGS.folder(finished, NAME)
    (features / "_inputs.json").rename(features / "inputs.json")
    for pointer in pointers_in(root):
        lose_seal(pointer)
    truncate(damaged := UMAP_PLOTS.folder(finished, "tiny_scratch") / "umap.parquet")

    TRAINING_SET.run(finished, NAME)

    assert "0.2.1" in caplog.text
    assert str(damaged) in caplog.text
    assert before - current(finished) == {("umap_plots", "tiny_scratch")}
    assert [p.name for p in features.glob("*inputs.json")] == ["_inputs.json"]
    caplog.clear()
    TRAINING_SET.run(finished, NAME)
    assert "0.2.1" not in caplog.text


def test_a_file_that_was_put_back_is_whole_again(finished):
    path = PATCH_INDEX.folder(finished, BRAIN) / "part-0.parquet"
    shutil.copy2(path, finished.store.parent / "copy")
    flip(path)
    with pytest.raises(DamagedResult):
        verified(path)
    assert not PATCH_INDEX.is_current(finished, BRAIN)

    shutil.copy2(finished.store.parent / "copy", path)

    assert PATCH_INDEX.is_current(finished, BRAIN)
    assert verified(path) == path


def test_damaged_thumbnails_are_not_reused(finished):
    folder = Store(finished.store).section_scans(BRAIN)
    assert read_inventory(folder) is not None
    flip(folder / "_thumbnails.npz")

    assert read_inventory(folder) is None


def test_an_encoder_keeps_its_weights_when_only_what_it_was_given_is_damaged(finished):
    folder = ENCODER.folder(finished, NAME)
    weights = (folder / "encoder.safetensors").stat().st_mtime_ns
    flip(folder / "patches.parquet")
    with pytest.raises(DamagedResult):
        verified(folder / "patches.parquet")
    assert not ENCODER.is_current(finished, NAME)

    ENCODER.run(finished, NAME)

    assert ENCODER.is_current(finished, NAME)
    assert (folder / "encoder.safetensors").stat().st_mtime_ns == weights


def test_an_encoder_whose_weights_are_damaged_is_trained_again(finished):
    folder = ENCODER.folder(finished, "tiny_position")
    flip(folder / "encoder.json")
    with pytest.raises(DamagedResult):
        ENCODER.summary(finished, "tiny_position")

    ENCODER.prepare(finished, "tiny_position")

    assert not (folder / "encoder.json").exists()
    with pytest.raises(TrainingError, match="not finished"):
        ENCODER.collect(finished, "tiny_position")


@pytest.mark.long
def test_the_advised_run_makes_everything_good_again(finished, tmp_path):
    versions = {name: ENCODER.folder(finished, name).name for name in PARTITIONS["encoder"]}
    for path in one_of_each_kind(finished.store):
        if path.name not in POINTERS:
            flip(path)
    found = cytonet("doctor", "--store", settings=finished, home=tmp_path / "home", check=False)
    assert found.returncode == 1
    assert "cytonet run --brains B01" in found.stdout

    cytonet("run", settings=finished, home=tmp_path / "home")

    assert cytonet("doctor", "--store", settings=finished, home=tmp_path / "home").returncode == 0
    assert {name: ENCODER.folder(finished, name).name for name in PARTITIONS["encoder"]} == versions


def test_the_documents_name_the_by_products():
    text = (PROJECT / "docs" / "store.md").read_text()
    for name in ("packed/", "lineage/", "checkpoints/", "progress.json", "job/", "jobs/", ".area_distances-"):
        assert f"`{name}" in text, name
