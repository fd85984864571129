"""What happens when ITK crashes over a file, hangs, or floods the terminal: one error, and the next file is read."""

import os
import textwrap

import pytest
import SimpleITK as sitk  # noqa: N813

from cytonet_pipeline import guard
from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration import load_transform
from cytonet_pipeline.registration.transforms import itk_guard
from cytonet_pipeline.registration.transforms.itk_guard import RejectedByItkError, ask_itk


@pytest.fixture
def brittle(tmp_path, monkeypatch):
    """A worker that dies of a segmentation fault over files named crash, and sleeps over those named hang."""
    script = tmp_path / "worker.py"
    script.write_text(
        textwrap.dedent("""
            import json, os, signal, sys, time
            for line in sys.stdin:
                path = os.path.basename(json.loads(line)["path"])
                if "crash" in path:
                    os.kill(os.getpid(), signal.SIGSEGV)
                if "hang" in path:
                    time.sleep(60)
                print(json.dumps({"error": "refused"} if "refused" in path else {}), flush=True)
        """)
    )
    worker = guard.GuardedProcess([str(script)])
    monkeypatch.setattr(itk_guard, "_itk", worker)
    monkeypatch.setattr(itk_guard, "_answers", {})
    yield tmp_path
    worker.close()


def test_a_crash_is_the_fault_of_its_file_and_the_next_is_read(brittle):
    for name in ("crash.h5", "sound.h5", "refused.h5"):
        (brittle / name).write_bytes(b"")

    with pytest.raises(TransformError, match=r"crash\.h5: reading it with ITK ends the program \(SIGSEGV\)") as error:
        ask_itk("transform", brittle / "crash.h5")
    assert error.value.to_fix
    assert ask_itk("transform", brittle / "sound.h5") == {}
    with pytest.raises(RejectedByItkError, match="refused"):
        ask_itk("transform", brittle / "refused.h5")
    with pytest.raises(TransformError, match="SIGSEGV"):
        ask_itk("transform", brittle / "crash.h5")


def test_a_file_that_itk_does_not_come_to_an_end_with_is_given_up(brittle, monkeypatch):
    monkeypatch.setattr(guard, "LEAST_SECONDS", 0.2)
    (brittle / "hang.h5").write_bytes(b"")
    with pytest.raises(TransformError, match=r"hang\.h5: reading it with ITK was not done after 0 s"):
        ask_itk("transform", brittle / "hang.h5")


def test_a_file_that_was_replaced_is_asked_about_again(brittle):
    path = brittle / "crash.h5"
    path.write_bytes(b"")
    with pytest.raises(TransformError):
        ask_itk("transform", path)
    itk_guard._answers.clear()
    path.write_bytes(b"another")
    os.utime(path, ns=(1, 1))
    with pytest.raises(TransformError):
        ask_itk("transform", path)
    assert len(itk_guard._answers) == 1


def test_a_header_that_asks_for_any_amount_of_memory_is_refused(tmp_path):
    """32,767³ displacements: without a limit the system would end this process, or another."""
    field = sitk.DisplacementFieldTransform(sitk.Image([3, 3, 3], sitk.sitkVectorFloat64, 3))
    sitk.WriteTransform(field, str(tmp_path / "f.tfm"))
    text = (tmp_path / "f.tfm").read_text().replace("FixedParameters: 3 3 3", "FixedParameters: 32767 32767 32767")
    assert "32767" in text
    (tmp_path / "f.tfm").write_text(text)
    with pytest.raises(TransformError, match=r"f\.tfm"):
        load_transform(tmp_path / "f.tfm")
