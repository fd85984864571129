"""The snippets of docs/store.md, run as they stand, on a store with names that programs take for something else."""

import importlib.util
import re

import numpy as np
import pytest

from cytonet_pipeline.evaluation.features.embedding_store import write_embeddings
from cytonet_pipeline.patches import write_index
from cytonet_pipeline.store import Store, Verdict, write_stamp
from cytonet_pipeline_tests.conftest import PROJECT
from cytonet_pipeline_tests.evaluation.conftest import index_of

SNIPPETS = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "store.md").read_text(), re.DOTALL)
# Numbers, with and without a leading zero, a power and a truth value.
BRAINS = ("01", "02", "1e5", "True")
VERSION = "0" * 15 + "1"


@pytest.fixture(scope="module")
def awkward(tmp_path_factory):
    """A folder with spaces and a store of brains with awkward names, with pictures and records beside every table."""
    folder = tmp_path_factory.mktemp("of a group") / "my brains"
    store, rows = Store(folder / "store"), 0
    for number, brain in enumerate(BRAINS):
        index = index_of(brain, np.random.default_rng(number))
        rows += len(index)
        place, features = store.patch_index(brain), store.patch_embeddings("demo_cytonet", VERSION, brain)
        write_index(place, index, {})
        write_embeddings(
            features / "part-0.parquet", index["patch_id"].to_numpy(), np.ones((len(index), 4)), "demo_cytonet", VERSION
        )
        for of_brain in (place, features):
            Verdict("ok", digest="0").write(of_brain)
            (of_brain / "_picture.png").write_bytes(b"no table")
            write_stamp(of_brain, {})
    write_stamp(store.patch_embeddings("demo_cytonet", VERSION), {})
    store.point_current("demo_cytonet", VERSION)
    return folder, rows


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: " ".join(re.findall(r"import (\w+)", snippet)))
def test_a_snippet_of_the_documents_reads_all_brains(snippet, awkward, monkeypatch):
    folder, rows = awkward
    for package in re.findall(r"^import (duckdb|polars)", snippet, re.MULTILINE):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[test]'")
    monkeypatch.chdir(folder)
    names = {}

    exec(snippet, names)

    index = names["index"]
    expected = rows // len(BRAINS) if "WHERE" in snippet else rows
    assert len(index) == expected
    assert set(index["brain"]) == ({"01"} if "WHERE" in snippet else set(BRAINS))
    if "matrix" in names:
        assert names["matrix"].shape == (rows, 4)


def test_every_program_has_a_snippet():
    imported = {name for snippet in SNIPPETS for name in re.findall(r"^import (\w+)", snippet, re.MULTILINE)}
    assert {"pandas", "polars", "pyarrow", "duckdb"} <= imported
