"""Freed memory stays with a process that computes on the CPU: the system's pages are not asked for again every step."""

import json
import platform
import subprocess
import sys

import pytest
import torch

from cytonet_pipeline.learning import freed_memory
from cytonet_pipeline.learning.freed_memory import freed_memory_kept

STEPS, TENSORS, MIB = 20, 6, 8
_CHILD = f"""
import json, resource, torch
from cytonet_pipeline.learning.freed_memory import freed_memory_kept
def step():
    # As between forward and backward: all are there at once.
    return sum(float(t[0]) for t in [torch.ones({MIB} << 18) for _ in range({TENSORS})])
def faults():
    for _ in range(5):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({STEPS}):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident_mib():
    with open("/proc/self/statm") as opened:
        return int(opened.read().split()[1]) * resource.getpagesize() >> 20
plain = faults()
with freed_memory_kept(torch.device("cpu")):
    kept, held = faults(), resident_mib()
print(json.dumps({{"plain": plain, "kept": kept, "given_back": held - resident_mib()}}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told")
def test_the_same_tensors_come_from_the_same_pages_and_go_back_in_the_end():
    shown = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True)
    told = json.loads(shown.stdout)

    assert told["kept"] < told["plain"] / 5
    assert told["given_back"] > 0.8 * TENSORS * MIB


@pytest.mark.parametrize(("device", "libc"), [("cpu", ("", "")), ("cpu", ("musl", "1.2")), ("cuda", ("glibc", "2.36"))])
def test_other_c_libraries_and_devices_are_left_alone(monkeypatch, device, libc):
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", None)

    with freed_memory_kept(torch.device(device)):
        pass
