"""Conditions, evaluated on an instance where everything has been materialised: what they ask for, and what not."""

import dagster as dg
import pytest

from cytonet_pipeline.defs.automation import after_any_upstream, after_upstream
from cytonet_pipeline.defs.partitions import brains, every_brain

PASSES: dict[str, bool] = {}
ENCODERS = dg.StaticPartitionsDefinition(["a", "b"])


@dg.asset(partitions_def=brains)
def index() -> None: ...


@dg.asset(partitions_def=ENCODERS, deps=[dg.AssetDep("index", partition_mapping=every_brain)])
def encoder() -> None: ...


@dg.asset_check(asset="encoder", blocking=True, partitions_def=ENCODERS)
def healthy(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=PASSES[context.partition_key])


@dg.asset(partitions_def=ENCODERS, deps=["encoder"], automation_condition=after_upstream)
def probe() -> None: ...


@dg.asset(deps=["probe"], automation_condition=after_any_upstream)
def table() -> None: ...


DEFS = dg.Definitions([index, encoder, probe, table], asset_checks=[healthy])


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as opened:
        opened.add_dynamic_partitions("brain", ["B01", "B02"])
        yield opened


def materialise(instance, asset, partition=None) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition))


def train(instance, partition: str, *, passes: bool = True) -> None:
    """Materialise the encoder with its check, in a run of its own."""
    PASSES[partition] = passes
    job = DEFS.resolve_implicit_global_asset_job_def()
    job.execute_in_process(
        instance=instance, partition_key=partition, asset_selection=[dg.AssetKey("encoder")], raise_on_error=False
    )


def baseline(instance):
    """Everything materialised, one tick behind us."""
    for brain in ("B01", "B02"):
        materialise(instance, "index", brain)
    for name in ("a", "b"):
        train(instance, name)
        materialise(instance, "probe", name)
    materialise(instance, "table")
    return dg.evaluate_automation_conditions(DEFS, instance)


def requested(result, asset):
    return set(result.get_requested_partitions(dg.AssetKey(asset)))


def test_nothing_is_asked_for_while_nothing_changes(instance):
    first = baseline(instance)
    again = dg.evaluate_automation_conditions(DEFS, instance, cursor=first.cursor)
    assert first.total_requested == 0
    assert again.total_requested == 0


def test_a_trained_encoder_is_evaluated_and_no_other(instance):
    before = baseline(instance)
    train(instance, "a")

    result = dg.evaluate_automation_conditions(DEFS, instance, cursor=before.cursor)

    assert requested(result, "probe") == {"a"}


def test_a_collapsed_encoder_is_not_evaluated_on_a_later_tick_either(instance):
    """Trap 5: `eager()` ignores blocking checks that failed, from the next tick on."""
    before = baseline(instance)
    train(instance, "a", passes=False)

    result = dg.evaluate_automation_conditions(DEFS, instance, cursor=before.cursor)
    later = dg.evaluate_automation_conditions(DEFS, instance, cursor=result.cursor)

    assert requested(result, "probe") == set()
    assert requested(later, "probe") == set()


def test_an_update_that_lands_while_its_target_runs_is_not_lost(instance):
    """Trap 4: `eager()` forgets it."""
    before = baseline(instance)
    train(instance, "a")
    asked = dg.evaluate_automation_conditions(DEFS, instance, cursor=before.cursor)
    quiet = dg.evaluate_automation_conditions(DEFS, instance, cursor=asked.cursor)
    train(instance, "a")

    again = dg.evaluate_automation_conditions(DEFS, instance, cursor=quiet.cursor)

    assert requested(asked, "probe") == {"a"}
    assert requested(again, "probe") == {"a"}


def test_the_table_is_asked_for_while_some_encoders_are_missing(instance):
    """Trap 6: one missing partition would block an unpartitioned asset for good."""
    materialise(instance, "table")
    before = dg.evaluate_automation_conditions(DEFS, instance)
    materialise(instance, "probe", "a")

    result = dg.evaluate_automation_conditions(DEFS, instance, cursor=before.cursor)

    assert result.get_num_requested(dg.AssetKey("table")) == 1


def test_a_brain_without_an_index_keeps_nobody_from_being_trained(instance):
    """Trap 6: a new brain without an index must not stop the encoders; the training set decides who takes part."""
    materialise(instance, "index", "B01")
    result = dg.materialize([encoder], partition_key="a", instance=instance, raise_on_error=False)
    assert result.success
