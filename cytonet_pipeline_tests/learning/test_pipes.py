"""Under Dagster Pipes a training run reports its start and its end; without Dagster nothing is different."""

import json
import os
import subprocess
import sys

import dagster as dg
import pytest


# Dagster's own session reads a property of its own reader that it has marked as preview.
@pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")
def test_a_training_run_reports_start_and_end_to_dagster(tiny, tmp_path):
    """The child's environment is made by Dagster itself; only its messages are looked at."""
    folder = tiny.folder(steps=2)
    messages = tmp_path / "messages.jsonl"

    @dg.op
    def train(context: dg.OpExecutionContext) -> None:
        reader = dg.PipesFileMessageReader(str(messages), cleanup_file=False)
        with dg.open_pipes_session(context, dg.PipesEnvContextInjector(), reader) as session:
            command = [sys.executable, "-m", "cytonet_pipeline.learning", str(folder), "--data", str(tiny.data)]
            environment = {**os.environ, **session.get_bootstrap_env_vars()}
            subprocess.run(command, env=environment, check=True, capture_output=True)
        assert session.message_handler.received_opened_message

    @dg.job
    def training():
        train()

    assert training.execute_in_process().success

    sent = [json.loads(line) for line in messages.read_text().splitlines()]
    payloads = [m["params"]["payload"] for m in sent if m["method"] == "report_custom_message"]
    assert [payload["state"] for payload in payloads] == ["started", "ended"]
    assert payloads[1]["exit_code"] == 0
    assert payloads[1]["steps"] == 2
    assert sent[-1]["method"] == "closed"
