"""Which pool a step waits in, and the entry point of steps that a node runs."""

import os
import subprocess
import sys

import dagster as dg
import pytest

from cytonet_pipeline.defs import materialize as materialize_module
from cytonet_pipeline.defs.materialize import materialize
from cytonet_pipeline.defs.resources import RunOptions
from cytonet_pipeline.stages import PATCH_EMBEDDINGS, PATCH_INDEX, Summary
from cytonet_pipeline_tests.conftest import PROJECT

POOLS = """
from cytonet_pipeline.defs.evaluation.assets import patch_embeddings
from cytonet_pipeline.defs.histology.assets import patch_index
from cytonet_pipeline.defs.training.assets import submit_training
print(submit_training.pool, patch_embeddings.op.pool, patch_index.op.pool)
"""


@pytest.mark.parametrize(
    ("cluster", "pools"),
    [
        ("local", "local_training local_heavy local_heavy"),
        ("slurm", "slurm_gpu slurm_gpu local_heavy"),
    ],
)
def test_what_only_waits_for_the_cluster_takes_no_place_of_this_machine(tmp_path, cluster, pools):
    profile = tmp_path / "profile.yaml"
    profile.write_text("nodes: 2\nsend: {patch_embeddings: {}}\n")
    environment = {**os.environ, "CYTONET_CLUSTER": cluster, "CYTONET_CLUSTER_PROFILE": str(profile)}

    ran = subprocess.run(
        [sys.executable, "-c", POOLS], env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=120
    )

    assert ran.stdout.strip() == pools, ran.stderr


def test_a_step_on_a_node_says_what_is_wrong_without_a_traceback(tmp_path):
    environment = {**os.environ, "CYTONET_EXPERIMENTS": str(tmp_path / "none.yaml"), "CYTONET_STORE": str(tmp_path)}
    command = [sys.executable, "-m", "cytonet_pipeline.stages", "patch_index", "B01"]

    ran = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=120)

    assert ran.returncode == 1
    assert "none.yaml: cannot be read" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_node_needs_no_dagster_for_a_step():
    script = "import sys, cytonet_pipeline.stages.__main__; print('dagster' in sys.modules)"

    ran = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=120)

    assert ran.stdout.strip() == "False", ran.stderr


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        # Its parts are discarded here, once: a job that is requeued must go on with the next part.
        (PATCH_EMBEDDINGS, ["discard", "send False", "run False"]),
        (PATCH_INDEX, ["send True", "run False"]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_job_that_recomputes_parts_goes_on_with_the_next_part_when_it_is_requeued(
    monkeypatch, tmp_path, stage, expected
):
    steps = []
    monkeypatch.setattr(type(stage), "discard", lambda *_: steps.append("discard"), raising=False)
    monkeypatch.setattr(type(stage), "run", lambda *_, recompute: steps.append(f"run {recompute}"))
    monkeypatch.setattr(type(stage), "summary", lambda *_: Summary(tmp_path, "1"))
    monkeypatch.setattr(materialize_module, "send", lambda *_, recompute: steps.append(f"send {recompute}") or True)
    context = dg.build_asset_context(partition_key="B01")

    materialize(stage, context, RunOptions(recompute=True), settings=None)

    assert steps == expected
