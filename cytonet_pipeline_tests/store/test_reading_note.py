"""What a process that a signal ended was reading can be told afterwards."""

import os
import subprocess
import sys
import tempfile

import pytest

from cytonet_pipeline.store import reading_note
from cytonet_pipeline.store.reading_note import left_unread, reading

CRASH = """
import faulthandler, threading
from cytonet_pipeline.store.reading_note import reading
def read(what):
    with reading(what):
        barrier.wait()
        done.wait()
barrier, done = threading.Barrier(3), threading.Event()
for what in ("sub-B01, sample 0010 (a.tif)", "sub-B01, sample 0020 (b.tif)"):
    threading.Thread(target=read, args=(what,), daemon=True).start()
with reading("what has been read to its end"):
    pass
barrier.wait()
faulthandler._sigsegv()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(reading_note, "_notes", None)
    return tmp_path


def test_a_crash_leaves_the_sections_that_its_threads_were_reading(temporary):
    process = subprocess.Popen([sys.executable, "-c", CRASH], env={**os.environ, "TMPDIR": str(temporary)})
    assert process.wait(60) == -11

    what = left_unread(process.pid)

    assert f"Process {process.pid} ended while it read" in what
    assert "0010 (a.tif)" in what
    assert "0020 (b.tif)" in what
    assert "to its end" not in what
    assert left_unread() == left_unread(process.pid) == ""


def test_what_a_living_process_reads_is_left_to_it():
    with reading("sub-B01, sample 0010 (a.tif)"):
        assert left_unread() == ""


def test_a_note_that_cannot_be_written_does_not_stop_the_reading(temporary, monkeypatch):
    (temporary / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "file"))

    with reading("sub-B01, sample 0010 (a.tif)"):
        assert left_unread() == ""
