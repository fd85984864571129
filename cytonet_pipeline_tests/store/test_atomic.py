"""A killed or failed write leaves nothing that a later step would read."""

import errno
import json
import os

import pytest

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import atomic_file, atomic_folder, is_current, write_json, write_stamp


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"a": 1})

    with pytest.raises(RuntimeError, match="half way"):
        write_half(path)

    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["table.json"]


def write_half(path):
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")


def test_a_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path):
    folder = tmp_path / "brain=B01"
    with atomic_folder(folder) as first:
        (first / "old.txt").write_text("old")
    with atomic_folder(folder) as second:
        (second / "new.txt").write_text("new")
        assert (folder / "old.txt").exists()

    assert os.listdir(folder) == ["new.txt"]
    assert os.listdir(tmp_path) == ["brain=B01"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    folder = tmp_path / "brain=B01"
    with atomic_folder(folder) as first:
        (first / "old.txt").write_text("old")

    with pytest.raises(RuntimeError, match="half way"), atomic_folder(folder):
        raise RuntimeError("half way")

    assert os.listdir(folder) == ["old.txt"]


def test_a_full_disk_is_one_clear_error():
    """/dev/full answers every write with ENOSPC, as a full disk does."""
    with pytest.raises(StoreError, match="disk is full") as caught, atomic_folder_on_full_disk():
        pass
    assert "to fix" in str(caught.value)


def atomic_folder_on_full_disk():
    from contextlib import contextmanager
    from pathlib import Path
    from tempfile import TemporaryDirectory

    @contextmanager
    def writing():
        with TemporaryDirectory() as folder, atomic_file(Path(folder) / "table"), open("/dev/full", "w") as full:
            full.write("x" * 100_000)
            yield

    return writing()


def test_the_store_is_not_blamed_for_other_files(tmp_path):
    """A scan that may not be read, opened while its brain's folder is written, is no fault of the store."""
    scan = str(tmp_path / "brains/scan.tif")
    with pytest.raises(PermissionError, match=r"scan\.tif"), atomic_folder(tmp_path / "store" / "brain=B01"):
        raise PermissionError(errno.EACCES, "Permission denied", scan)

    with pytest.raises(StoreError, match="no write permission"), atomic_folder(tmp_path / "store" / "b") as writing:
        raise PermissionError(errno.EACCES, "Permission denied", str(writing / "x.parquet"))


def test_a_full_disk_that_names_no_file_comes_with_the_space_that_is_left(tmp_path):
    """The temporary folder may be full, and not the store."""
    with pytest.raises(StoreError, match="disk is full") as caught, atomic_folder(tmp_path / "b"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert any(str(tmp_path) in place and "MB free" in place for place in caught.value.looked_for)


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreError, match="not a folder"), atomic_folder(tmp_path / "file" / "store"):
        pass


def test_a_result_is_current_only_with_the_same_inputs(tmp_path):
    write_stamp(tmp_path, {"sections": "abc", "gap": 1.0})

    assert is_current(tmp_path, {"gap": 1.0, "sections": "abc"})
    assert not is_current(tmp_path, {"gap": 2.0, "sections": "abc"})
    assert not is_current(tmp_path / "nothing", {"gap": 1.0, "sections": "abc"})
