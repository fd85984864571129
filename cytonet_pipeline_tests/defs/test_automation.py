"""What the automation conditions of the real definitions request, from an instance where everything is materialised.

Events come from stand-ins that have the names of our assets and compute nothing: the event log knows names only.
"""

import dagster as dg
import pytest

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.defs.partitions import brains, encoders

BRAINS = ["B01", "B02", "B20"]
ENCODERS = ["tiny_cytonet", "tiny_scratch", "tiny_position"]
EVALUATION = {"patch_embeddings", "linear_probe", "umap_plots", "area_maps"}
HEALTHY: dict[str, bool] = {}


@dg.asset(name="encoder", partitions_def=encoders)
def _training(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    return dg.MaterializeResult(data_version=dg.DataVersion(context.run.run_id))


@dg.asset_check(asset="encoder", name="encoder_is_healthy", blocking=True, partitions_def=encoders)
def _health(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=HEALTHY[context.partition_key])


TRAINING = dg.Definitions([_training], asset_checks=[_health])


class Pipeline:
    """The real definitions beside an instance; what is requested is counted from tick to tick."""

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.defs = defs
        self.graph = self.defs.resolve_asset_graph()
        self.instance = instance
        self.cursor = None
        self.versions = 0
        self.instance.add_dynamic_partitions(brains.name, BRAINS)

    def materialise(self, asset: str, *partitions: str) -> None:
        self.versions += 1
        for partition in partitions or [None]:
            self.report(asset, partition, f"version {self.versions}")

    def report(self, asset: str, partition: str | None, data_version: str) -> None:
        """Materialise a result with a data version, which may be the one it had."""
        tags = {"dagster/data_version": data_version}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition, tags=tags))

    def train(self, encoder: str, *, healthy: bool = True) -> None:
        """Materialise an encoder with its check, in a run of its own."""
        HEALTHY[encoder] = healthy
        job = TRAINING.resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=self.instance, partition_key=encoder, raise_on_error=False)

    def materialise_everything(self) -> None:
        for key in self.graph.materializable_asset_keys:
            partitions = self.graph.get(key).partitions_def
            names = [] if partitions is None else BRAINS if partitions == brains else ENCODERS
            self.materialise(key.to_user_string(), *names)

    def start(self, job: str, partition: str) -> dg.DagsterRun:
        """Put a run of a job of ours in progress."""
        return self.instance.create_run_for_job(
            self.defs.resolve_job_def(job), tags={"dagster/partition": partition}, status=dg.DagsterRunStatus.STARTED
        )

    def finish(self, run: dg.DagsterRun) -> None:
        """End a run."""
        self.instance.report_run_canceled(run)

    def tick(self) -> dict[str, set[str | None]]:
        """Evaluate all conditions once and return the partitions requested per asset."""
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return {
            key.to_user_string(): set(result.get_requested_partitions(key))
            for key in self.graph.materializable_asset_keys
            if result.get_num_requested(key)
        }


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture(scope="module")
def defs():
    return build_defs()


@pytest.fixture
def complete(defs, instance):
    """Everything materialised, the first tick behind us."""
    pipeline = Pipeline(defs, instance)
    pipeline.materialise_everything()
    assert pipeline.tick() == {}
    return pipeline


def test_nothing_is_requested_while_nothing_changes(complete):
    assert complete.tick() == {}


def test_what_is_materialised_without_a_change_starts_nothing(complete):
    """A current encoder that was materialised again requested four assets, and the reference six."""
    for asset, partition in (("reference_space", None), ("encoder", "tiny_cytonet"), ("patch_index", "B01")):
        complete.report(asset, partition, "the same")
        complete.tick()
        complete.tick()

        complete.report(asset, partition, "the same")

        assert complete.tick() == {}, asset


def test_a_trained_encoder_is_evaluated_and_no_other(complete):
    complete.train("tiny_cytonet")

    assert complete.tick() == {asset: {"tiny_cytonet"} for asset in EVALUATION}
    assert complete.tick() == {}, "requested once"


def test_the_table_follows_the_probe_and_not_the_training(complete):
    complete.materialise("linear_probe", "tiny_cytonet")

    assert complete.tick() == {"metrics_table": {None}, "area_maps": {"tiny_cytonet"}}


def test_training_is_requested_by_nothing(complete):
    """GPU time is spent when a person or the schedule has decided."""
    for asset in ("section_scans", "colin27_transforms", "patch_index"):
        complete.materialise(asset, "B01")
    complete.materialise("training_set", "tiny_cytonet")

    assert not {"training_set", "encoder"} & complete.tick().keys()


def test_a_new_index_is_offered_to_the_evaluation_of_every_encoder(complete):
    """Whether anything changes for an encoder is decided by the digests in the store, at little cost."""
    for name in ENCODERS:
        complete.train(name)
    assert complete.tick().keys() == EVALUATION
    assert complete.tick() == {}

    complete.materialise("patch_index", "B01")

    assert complete.tick() == {asset: set(ENCODERS) for asset in EVALUATION}


def test_a_collapsed_encoder_is_not_evaluated_on_a_later_tick_either(complete):
    """Trap 5 in docs/dagster.md: `eager()` ignores blocking checks that failed, from the next tick on."""
    complete.train("tiny_cytonet", healthy=False)

    assert complete.tick() == {}
    assert complete.tick() == {}


def test_an_encoder_that_was_trained_again_and_is_healthy_is_evaluated(complete):
    complete.train("tiny_cytonet", healthy=False)
    assert complete.tick() == {}

    complete.train("tiny_cytonet")

    assert complete.tick() == {asset: {"tiny_cytonet"} for asset in EVALUATION}


def test_an_update_that_lands_while_its_target_runs_is_not_lost(complete):
    """Trap 4 in docs/dagster.md: `eager()` forgets it."""
    complete.train("tiny_cytonet")
    assert complete.tick().keys() == EVALUATION
    run = complete.start("evaluate_encoder", "tiny_cytonet")
    assert complete.tick() == {}

    complete.train("tiny_cytonet")

    assert complete.tick() == {}, "its evaluation is in progress"
    complete.finish(run)
    assert complete.tick() == {asset: {"tiny_cytonet"} for asset in EVALUATION}


def test_an_update_in_the_tick_after_a_request_is_lost(complete):
    """Trap 4 in docs/dagster.md, second kind: why a sensor and a schedule compare with the store."""
    complete.train("tiny_cytonet")
    assert complete.tick().keys() == EVALUATION

    complete.train("tiny_cytonet")

    assert complete.tick() == {}
    assert complete.tick() == {}


def test_the_table_is_requested_while_some_encoders_are_missing(defs, instance):
    """Trap 6 in docs/dagster.md: one missing partition would block an unpartitioned asset for good."""
    pipeline = Pipeline(defs, instance)
    pipeline.materialise("metrics_table")
    assert pipeline.tick() == {}

    pipeline.materialise("linear_probe", "tiny_cytonet")

    assert pipeline.tick() == {"metrics_table": {None}}


def test_a_brain_that_was_never_indexed_holds_no_evaluation_back(complete):
    """Trap 6 in docs/dagster.md: `any_deps_missing` over all brains would stop every encoder for good."""
    complete.instance.add_dynamic_partitions(brains.name, ["B21"])
    assert complete.tick() == {}

    complete.train("tiny_cytonet")

    assert complete.tick() == {asset: {"tiny_cytonet"} for asset in EVALUATION}


def test_an_encoder_without_features_is_not_probed(defs, instance):
    """What is missing of the encoder itself does hold back: there is nothing to probe."""
    pipeline = Pipeline(defs, instance)
    pipeline.materialise("reference_space")
    assert pipeline.tick() == {}

    pipeline.materialise("reference_space")

    assert pipeline.tick() == {}
