"""Freed memory stays with a process that computes on the CPU: the system's pages are not asked for again every step."""

import platform
import subprocess
import sys

import pytest

STEPS, TENSORS, MIB = 20, 6, 8
_CHILD = f"""
import resource, sys, torch
from cytonet_pipeline.learning.freed_memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def step():
    # As between forward and backward: all are there at once.
    return sum(float(t[0]) for t in [torch.ones({MIB} << 18) for _ in range({TENSORS})])
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({STEPS}):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how):
    shown = subprocess.run([sys.executable, "-c", _CHILD, how], capture_output=True, text=True, check=True)
    return int(shown.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told")
def test_the_same_tensors_come_from_the_same_pages():
    pages_a_step = TENSORS * (MIB << 20) // 4096

    assert page_faults("kept") < pages_a_step


@pytest.mark.parametrize("libc", [("", ""), ("musl", "1.2")])
def test_other_c_libraries_are_left_alone(monkeypatch, libc):
    from cytonet_pipeline.learning import freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", None)

    assert not freed_memory.keep_freed_memory()
