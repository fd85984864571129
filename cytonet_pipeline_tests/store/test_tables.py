"""Tables keep their contract on the way in and on the way out."""

import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import TABLES, digest_of, read_record, read_table, table, write_record, write_table

UMAP = pd.DataFrame({"patch_id": [2**64 - 1, 7], "umap_1": [0.5, 1.5], "umap_2": [1.0, 2.0]})


def test_a_table_comes_back_as_it_was_written(tmp_path):
    write_table(tmp_path / "umap.parquet", UMAP, "umap", {"seed": 3})

    back = read_table(tmp_path / "umap.parquet", "umap")

    assert back["patch_id"].tolist() == [2**64 - 1, 7]
    assert back.dtypes.astype(str).tolist() == ["uint64", "float32", "float32"]


def test_parameters_and_meanings_stand_in_the_file(tmp_path):
    write_table(tmp_path / "umap.parquet", UMAP, "umap", {"seed": 3})

    schema = pyarrow.parquet.read_schema(tmp_path / "umap.parquet")

    assert schema.metadata[b"schema_version"] == b"1"
    assert schema.metadata[b"parameters"] == b'{"seed": 3}'
    assert b"hash" in schema.field("patch_id").metadata[b"description"]


@pytest.mark.parametrize(
    "broken",
    [
        UMAP.drop(columns="umap_2"),
        UMAP.assign(extra=1),
        UMAP.assign(patch_id=[7, 7]),
        UMAP.assign(umap_1=["a", "b"]),
    ],
    ids=["missing column", "unknown column", "same id twice", "wrong type"],
)
def test_a_table_that_breaks_its_contract_is_not_written(tmp_path, broken):
    with pytest.raises(StoreError, match="contract"):
        write_table(tmp_path / "umap.parquet", broken, "umap")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_a_later_version_is_refused_with_the_command_that_rebuilds_it(tmp_path):
    path = tmp_path / "umap.parquet"
    write_table(path, UMAP, "umap")
    data = pyarrow.parquet.read_table(path)
    later = data.replace_schema_metadata({**data.schema.metadata, b"schema_version": b"9"})
    pyarrow.parquet.write_table(later, path)

    with pytest.raises(StoreError, match="version 9") as caught:
        read_table(path, "umap")
    assert "cytonet run" in str(caught.value)


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "umap.parquet"
    write_table(path, UMAP, "umap")
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(StoreError, match=r"umap\.parquet"):
        read_table(path, "umap")


def test_a_record_of_another_version_is_refused(tmp_path):
    write_record(tmp_path / "a.json", {"x": 1})
    assert read_record(tmp_path / "a.json")["x"] == 1
    (tmp_path / "a.json").write_text('{"schema_version": 17}')
    with pytest.raises(StoreError, match="not a record"):
        read_record(tmp_path / "a.json")


def test_every_table_has_an_empty_form_that_keeps_its_own_contract():
    for name in TABLES:
        assert table(name).validate(table(name).empty()).empty


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.lists(st.text(max_size=3)), max_size=5))
def test_a_digest_does_not_depend_on_the_order_of_keys(record):
    assert digest_of(record) == digest_of(dict(reversed(record.items())))
