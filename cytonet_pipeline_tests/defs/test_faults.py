"""What is wrong with one brain is reported once and clearly, fails a check, and stops no other brain."""

import shutil

import dagster as dg
import pytest

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.store import Store, Verdict, read_table
from cytonet_pipeline_tests.conftest import cytonet, settings_for

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("faults")]


@pytest.fixture
def brains(small_brains, tmp_path):
    """A copy of the small brains that a test may break."""
    shutil.copytree(small_brains, tmp_path / "phantom")
    return tmp_path / "phantom"


@pytest.fixture(scope="module")
def with_reference(small_brains, tmp_path_factory):
    """A store that holds the checked reference and nothing else; tests copy it."""
    store = tmp_path_factory.mktemp("reference") / "store"
    defs = build_defs({"settings": settings_for(small_brains, store)})
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def("reference").execute_in_process(instance=instance).success
    return store


@pytest.fixture
def ingest(brains, with_reference, tmp_path):
    """Ingest a brain, in process, and return the result and the store."""
    settings = settings_for(brains, tmp_path / "store")
    shutil.copytree(with_reference, settings.store)
    job = build_defs({"settings": settings}).resolve_job_def("ingest_brain")

    def run(brain: str):
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions("brain", [brain])
            result = job.execute_in_process(instance=instance, partition_key=brain, raise_on_error=False)
            return result, Store(settings.store)

    return run


def failed_checks(result):
    return {
        evaluation.asset_check_key.name: evaluation.description or ""
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed
    }


def transform_of(brains, brain):
    folder = brains / "brains" / "derivatives" / "registration" / f"sub-{brain}"
    return folder / f"sub-{brain}_from-brain_to-MNIColin27_mode-points_xfm.h5"


def scans_of(brains, brain):
    return sorted((brains / "brains" / f"sub-{brain}" / "micr").glob("*.tif"))


def test_a_brain_without_a_transform_fails_its_check_and_not_its_run(brains, ingest):
    """Trap 7 in docs/dagster.md: one failed brain in a backfill would fail every training after it."""
    transform_of(brains, "B01").unlink()

    result, store = ingest("B01")

    assert result.success
    reason = failed_checks(result)["transforms_fit"]
    assert "no transform to MNIColin27" in reason
    assert "sub-B01_from-brain_to-MNIColin27_mode-points_xfm" in reason
    assert Verdict.read(store.section_scans("B01")).ok
    assert not Verdict.read(store.patch_index("B01")).ok


@pytest.mark.long
def test_a_transform_of_another_brain_is_caught_and_named(brains, ingest):
    shutil.copyfile(transform_of(brains, "B02"), transform_of(brains, "B01"))

    result, _ = ingest("B01")

    assert result.success
    assert "B02" in failed_checks(result)["transforms_fit"]


def test_a_truncated_scan_is_rejected_and_its_neighbours_stay(brains, ingest):
    scan = scans_of(brains, "B01")[2]
    scan.write_bytes(scan.read_bytes()[: scan.stat().st_size // 2])

    result, store = ingest("B01")

    sections = read_table(store.section_scans("B01") / "sections.parquet", "section_scans")
    rejected = sections[sections["status"] == "rejected"]
    assert len(rejected) == 1
    assert scan.name in rejected["reason"].iloc[0]
    assert scan.name in failed_checks(result)["scans_are_sound"]
    assert Verdict.read(store.patch_index("B01")).ok
    index = read_table(store.patch_index("B01"), "patch_index")
    assert rejected["sample"].iloc[0] not in set(index["sample"])
    assert index["sample"].nunique() == 5


@pytest.mark.long
def test_a_mask_of_another_section_does_not_pass_unseen(brains, ingest):
    masks = sorted((brains / "brains" / "derivatives" / "segmentation" / "sub-B01" / "micr").glob("*_mask.tif"))
    shutil.copyfile(masks[1], masks[4])

    _, store = ingest("B01")

    sections = read_table(store.section_scans("B01") / "sections.parquet", "section_scans")
    doubtful = sections[sections["status"].isin(["rejected", "flagged"])]
    assert [masks[4].name in reason for reason in doubtful["reason"]] == [True]


def test_a_brain_whose_scans_are_all_unreadable_says_so(brains, ingest):
    for scan in scans_of(brains, "B01"):
        scan.write_bytes(b"not a scan")

    result, store = ingest("B01")

    assert result.success
    assert {"scans_are_sound", "transforms_fit", "index_keeps_its_contract"} <= set(failed_checks(result))
    assert "no usable section" in Verdict.read(store.section_scans("B01")).reasons[0]


@pytest.mark.long
def test_a_faulty_brain_stays_out_of_the_training_set_and_the_others_go_on(brains, tmp_path):
    """Trap 5 in docs/dagster.md: blocking checks act within one run, so training looks at the stored verdict itself."""
    transform_of(brains, "B01").unlink()
    settings = settings_for(brains, tmp_path / "store")

    ran = cytonet("run", "--encoders", "tiny_position", settings=settings, home=tmp_path / "dagster", check=False)

    assert ran.returncode == 1
    assert "no transform to MNIColin27" in ran.stderr
    assert "0 failed" in ran.stdout
    again = cytonet("run", "--encoders", "tiny_position", settings=settings, home=tmp_path / "dagster", check=False)
    assert again.returncode == 1, "a fault that is still there must not fall silent"
    assert "no transform to MNIColin27" in again.stderr
    store = Store(settings.store)
    sections = read_table(store.current_encoder("tiny_position") / "sections.parquet", "training_sections")
    assert set(sections["brain"]) == {"B02", "B20"}
    assert (store.metrics() / "metrics.md").exists()


@pytest.mark.long
def test_a_reference_without_an_atlas_stops_the_run_with_one_message(brains, tmp_path):
    next((brains / "tpl-MNIColin27").glob("*atlas-*_dseg.nii.gz")).unlink()
    settings = settings_for(brains, tmp_path / "store")

    ran = cytonet("run", settings=settings, home=tmp_path / "dagster", check=False)

    assert ran.returncode == 1
    assert "atlas" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("there", [False, True], ids=["missing", "empty"])
def test_a_missing_or_empty_data_folder_is_one_message(there, tmp_path):
    if there:
        (tmp_path / "brains").mkdir()
    settings = settings_for(tmp_path, tmp_path / "store")

    ran = cytonet("run", settings=settings, home=tmp_path / "dagster", check=False)

    assert ran.returncode == 1
    assert str(tmp_path / "brains") in ran.stderr
    assert "to fix" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_misspelt_key_is_one_message(small_brains, tmp_path):
    settings = settings_for(small_brains, tmp_path / "store")
    wrong = tmp_path / "experiments" / "wrong.yaml"
    wrong.parent.mkdir()
    wrong.write_text(settings.experiments_file.read_text().replace("gap_mm", "gap_mn"))

    ran = cytonet(
        "run",
        settings=settings.model_copy(update={"experiments_file": wrong}),
        home=tmp_path / "dagster",
        check=False,
    )

    assert ran.returncode == 1
    assert "dataset.gap_mn: misspelt" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_store_that_cannot_be_written_is_one_message(small_brains, tmp_path):
    """A file in the way, because tests that run as root may write everywhere else."""
    settings = settings_for(small_brains, tmp_path / "file" / "store")
    (tmp_path / "file").write_text("a file is in the way")

    ran = cytonet("run", settings=settings, home=tmp_path / "dagster", check=False)

    assert ran.returncode == 1
    assert str(tmp_path / "file") in ran.stderr
    assert "Traceback" not in ran.stderr
