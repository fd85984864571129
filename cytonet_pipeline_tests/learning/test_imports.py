"""What importing costs: Dagster loads definitions in every step process."""

import subprocess
import sys


def loaded_after(statement):
    script = f"import sys; {statement}; print(*(m for m in ('torch', 'torchvision', 'dagster') if m in sys.modules))"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_does_not_import_torch():
    assert loaded_after("import cytonet_pipeline.learning, cytonet_pipeline.learning.prepare") == []


def test_training_imports_neither_dagster_nor_torchvision():
    """A GPU node has no Dagster, and the small encoder needs no torchvision."""
    assert loaded_after(
        "import cytonet_pipeline.learning.training.run, cytonet_pipeline.learning.backbones.encoders"
    ) == ["torch"]


def test_registries_are_read_without_torch():
    """Names in experiments files are checked by programs that never train."""
    names = "backbones.backbones", "losses.distances", "losses.transfer"
    assert loaded_after("import " + ", ".join(f"cytonet_pipeline.learning.{name}" for name in names)) == []
