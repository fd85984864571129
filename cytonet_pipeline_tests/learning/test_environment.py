"""The variables that launchers give to a training process: threads, and memory that it keeps on the CPU."""

import os
import platform
import subprocess
import sys

import pytest

from cytonet_pipeline.learning import MALLOC_ENVIRONMENT, training_environment

# Six tensors of 8 MiB per step, all alive at once as between forward and backward; page faults of twenty steps.
PAGE_FAULTS = """
import resource, torch
def step():
    return sum(float(t[0]) for t in [torch.ones(8 << 18) for _ in range(6)])
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
before = faults()
for _ in range(20):
    step()
print(faults() - before)
"""


def page_faults(**variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PAGE_FAULTS]
    ran = subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variables are those of glibc's allocator")
def test_the_tensors_of_the_next_step_come_from_the_same_pages():
    assert page_faults(**training_environment(1)) < page_faults(OMP_NUM_THREADS="1") / 5


def test_no_threshold_is_larger_than_older_releases_of_glibc_accept():
    """Before 2.35 a larger one is ignored while the other is taken: every block would be mapped anew."""
    assert int(MALLOC_ENVIRONMENT["MALLOC_MMAP_THRESHOLD_"]) <= 32 << 20
