"""A stage as the process of a job: what a batch system's warning does to it."""

import json
import os
import signal

import pytest

from cytonet_pipeline.stages import __main__ as job
from cytonet_pipeline.stages import stage_of
from cytonet_pipeline.store import atomic_folder


def test_the_warning_before_the_walltime_ends_the_process_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    def run(self, settings, partition, *, recompute):
        with atomic_folder(tmp_path / "result") as writing:
            (writing / "part").write_text("half")
            os.kill(os.getpid(), signal.SIGUSR1)
            pytest.fail("goes on")

    progress = tmp_path / "jobs" / "umap_plots" / "tiny_cytonet" / "progress.json"
    progress.parent.mkdir(parents=True)
    monkeypatch.setenv("CYTONET_STORE", str(tmp_path))
    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr(type(stage_of("umap_plots")), "run", run)

    with pytest.raises(SystemExit) as stopped:
        job.main(["umap_plots", "tiny_cytonet"])

    assert stopped.value.code == 75
    assert [path.name for path in tmp_path.iterdir()] == ["jobs"]
    assert json.loads(progress.read_text()) == {"state": "interrupted", "step": 0}
    assert signal.getsignal(signal.SIGUSR1) is before
