"""What happens when native code crashes, hangs or raises over a section's files: that section is rejected, no other."""

import textwrap

import numpy as np
import pytest
import tifffile

from cytonet_pipeline import guard
from cytonet_pipeline.dataset import Dataset
from cytonet_pipeline.guard import GuardedProcess
from cytonet_pipeline.histology import take_inventory
from cytonet_pipeline.histology.inventory import section as section_module
from cytonet_pipeline.histology.inventory import section_guard
from cytonet_pipeline.histology.inventory.section import Findings, examine_section
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline_tests.dataset.tiny import TinyDataset, ring, section_picture

# Codecs that crash as a native one does, in the real worker.
_CRASHING_CODECS = """
import imagecodecs, os, signal
def crash(*_, **__):
    os.kill(os.getpid(), signal.SIGSEGV)
imagecodecs.lzw_decode = imagecodecs.packbits_decode = crash
from cytonet_pipeline.histology.inventory.section_worker import main
main()
"""
# A worker that opens nothing: it dies over one sample, sleeps over another, and rejects the rest.
_BRITTLE = """
import json, os, signal, sys, time
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"busy with": request["scan"] + ": decoding its PackBits"}), flush=True)
    if request["sample"] == "0010":
        os.kill(os.getpid(), signal.SIGABRT)
    if request["sample"] == "0020":
        time.sleep(60)
    values = {"status": "rejected", "reason": "looked at " * 50_000}
    print(json.dumps({"values": values, "picture": None, "fault": ""}), flush=True)
"""


@pytest.fixture
def tiny(tmp_path) -> TinyDataset:
    return TinyDataset(tmp_path / "brains").write()


@pytest.fixture
def worker(monkeypatch):
    """Have sections examined by another program."""
    started = []

    def run(program):
        started.append(GuardedProcess(["-c", textwrap.dedent(program)]))
        monkeypatch.setattr(section_guard, "_processes", started)

    yield run
    for process in started:
        process.close()


def opened(tiny):
    block = DatasetBlock(density_per_mm3=1, held_out="B01")
    return Dataset(tiny.root, block).brain("B01"), block


def inventory(tiny):
    return take_inventory(*opened(tiny)).rows.set_index("sample")


def test_a_signal_from_a_codec_of_a_scan_or_mask_rejects_that_section_alone(tiny, worker):
    """LZW of the scan and PackBits of the mask: no codec is trusted, and the row names the file."""
    tifffile.imwrite(tiny.scan("0010"), section_picture(), compression="lzw", metadata=None)
    tifffile.imwrite(tiny.mask("0030"), ring(), compression="packbits", metadata=None)
    worker(_CRASHING_CODECS)

    found = inventory(tiny)

    assert found["status"].to_dict() == {"0010": "rejected", "0020": "ok", "0030": "rejected"}
    scan, mask = found.loc["0010", "reason"], found.loc["0030", "reason"]
    assert scan.startswith("sub-B01/micr/sub-B01_sample-0010_stain-merker_BF.tif: decoding its LZW ends the program")
    assert mask.startswith("derivatives/segmentation/sub-B01/micr/sub-B01_sample-0030_desc-cortex_mask.tif: decoding")
    assert all("(SIGSEGV): the file is damaged. To fix: copy it again" in reason for reason in (scan, mask))


def test_a_section_that_is_never_done_is_given_up_and_a_long_answer_arrives_whole(tiny, worker, monkeypatch):
    monkeypatch.setattr(guard, "LEAST_SECONDS", 0.7)
    worker(_BRITTLE)

    reasons = inventory(tiny)["reason"]

    assert "decoding its PackBits ends the program (SIGABRT)" in reasons["0010"]
    assert "decoding its PackBits was not done after" in reasons["0020"]
    assert reasons["0030"] == "looked at " * 50_000


def test_what_a_library_raises_over_a_file_rejects_its_section(tiny, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("in a codec")

    monkeypatch.setattr(section_module, "open_scan", broken)
    brain, block = opened(tiny)

    found = examine_section(brain.sections[1], brain.root, block, lambda _: None)

    assert found.values["status"] == "rejected"
    assert "sample-0020_stain-merker_BF.tif: cannot be read (ZeroDivisionError: in a codec)" in found.values["reason"]
    assert "Traceback" in found.fault


def test_what_crosses_to_the_process_and_back_is_what_was_sent(tiny):
    brain, block = opened(tiny)
    section = brain.sections[0]

    there, root, settings = section_guard.section_of(section_guard._request(section, brain.root, block))

    assert (root, settings) == (brain.root, block)
    for name in ("sample", "scan", "mask", "annotation", "pixel_um", "areas", "mask_value", "pick", "reason", "path"):
        assert getattr(there, name) == getattr(section, name), name
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    values = {"focus": np.float64(1) / 3, "staining": None, "levels": np.int64(2)}
    back = section_guard._findings(section_guard.answer_of(Findings(values, picture, "a fault")))
    assert (back.values, back.fault) == (values, "a fault")
    np.testing.assert_array_equal(back.picture, picture)
