"""Stored tables are validated batch by batch, with the verdict of the whole."""

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import table, to_arrow, validation
from cytonet_pipeline.store.validation import count_valid_rows

ROWS = pd.DataFrame(
    {
        "patch_id": np.arange(20, dtype=np.uint64),
        "brain": "B01",
        "sample": [f"{number}" for number in range(20)],
        "border_mm": pd.Series([None, 1.0] * 10, dtype="float32"),
    }
)


def stored(folder, *frames, name="border_distances"):
    """Files of row groups of four rows, as a program with a bug writes them: without a look at the contract."""
    schema = table(name).arrow().with_metadata({"schema_version": str(table(name).version), "table": name})
    files = []
    for number, frame in enumerate(frames):
        types = [
            schema.field(column).with_nullable(True)
            if column in schema.names
            else pyarrow.field(column, pyarrow.int64())
            for column in frame.columns
        ]
        data = pyarrow.Table.from_pandas(frame, pyarrow.schema(types, schema.metadata), preserve_index=False)
        files.append(folder / f"part-{number}.parquet")
        pyarrow.parquet.write_table(data, files[-1], row_group_size=4)
    return files


def changed(rows, column, row, value):
    values = rows[column].astype(object)
    values[row] = value
    return rows.assign(**{column: values})


def whole_is_valid(frames, name):
    """The verdict on all rows at once."""
    try:
        to_arrow(pd.concat(frames, ignore_index=True), name)
    except StoreError:
        return False
    return True


@pytest.mark.parametrize(
    "frames",
    [
        [ROWS],
        [ROWS[:7], ROWS[7:]],
        [ROWS[:0]],
        [ROWS[:0].drop(columns="sample")],
        [ROWS.drop(columns="sample")],
        [ROWS.assign(extra=1)],
        [changed(ROWS, "patch_id", 19, 0)],
        [ROWS[:10], ROWS[9:]],
        [changed(ROWS, "sample", 13, None)],
        [changed(ROWS, "patch_id", 13, None)],
        [ROWS[:5], changed(ROWS[5:], "brain", 18, None)],
    ],
    ids=[
        "sound", "two files", "no rows", "no rows and a column missing", "column missing", "unknown column",
        "same id in the first and the last group", "same row in two files", "null in the fourth group",
        "null among integers", "null in the second file",
    ],
)  # fmt: skip
def test_batches_have_the_verdict_of_the_whole(tmp_path, frames):
    files = stored(tmp_path, *frames)

    if whole_is_valid(frames, "border_distances"):
        assert count_valid_rows(files, "border_distances", batch_rows=3) == sum(map(len, frames))
    else:
        with pytest.raises(StoreError, match="'border_distances'"):
            count_valid_rows(files, "border_distances", batch_rows=3)


def test_a_value_out_of_range_in_the_last_group_is_named_with_its_file(tmp_path):
    row = {"protocol": "same_brain", "split": "seen_brains", "patch_id": 1, "found_id": 2, "n_candidates": 3}
    rows = pd.DataFrame([{**row, "distance_mm": float(number)} for number in range(9)])
    files = stored(tmp_path, rows[:1], changed(rows, "distance_mm", 8, -1.0), name="retrieved")

    with pytest.raises(StoreError, match=r"part-1\.parquet.*'retrieved'.*'distance_mm'"):
        count_valid_rows(files, "retrieved", batch_rows=4)


def test_rows_of_several_columns_are_there_twice_across_files(tmp_path):
    row = {"protocol": "same_brain", "split": "seen_brains", "found_id": 2, "distance_mm": 1.0, "n_candidates": 3}
    rows = pd.DataFrame([{**row, "patch_id": number} for number in range(9)])
    key = ("protocol", "split", "patch_id")

    assert count_valid_rows(stored(tmp_path, rows[:4], rows[4:], name="retrieved"), "retrieved", key) == 9
    with pytest.raises(StoreError, match=r"2 rows of the table 'retrieved' are there twice, by protocol, split"):
        count_valid_rows(stored(tmp_path, rows, rows[3:5], name="retrieved"), "retrieved", key)


def test_equal_hashes_alone_are_no_row_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "_hashes", lambda frame, key: np.zeros(len(frame), np.uint64))

    assert count_valid_rows(stored(tmp_path, ROWS), "border_distances", batch_rows=3) == 20


def test_values_that_may_be_anything_are_not_read_and_never_more_rows_than_asked_for(tmp_path, monkeypatch):
    read = []
    iterate = pyarrow.parquet.ParquetFile.iter_batches

    def seen(self, rows, columns):
        for batch in iterate(self, rows, columns=columns):
            read.append((batch.num_rows, columns))
            yield batch

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", seen)
    count_valid_rows(stored(tmp_path, ROWS), "border_distances", batch_rows=6)

    assert {tuple(columns) for _, columns in read} == {("patch_id", "brain", "sample")}
    assert max(rows for rows, _ in read) <= 6
