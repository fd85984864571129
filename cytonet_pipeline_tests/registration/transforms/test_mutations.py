"""Damaged transform files, made by random changes: each gives a transform or one error that names it, never a crash."""

import random
import time

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration import load_transform
from cytonet_pipeline_tests.registration.transforms import fields_as_written as written

MUTATIONS = 60
# Of a file of some kilobytes, worker process included.
SECONDS = 20


def field() -> sitk.Transform:
    values = np.random.default_rng(0).normal(size=(4, 5, 6, 3))
    return sitk.DisplacementFieldTransform(
        sitk.Cast(sitk.GetImageFromArray(values, isVector=True), sitk.sitkVectorFloat64)
    )


def write_sound(path) -> bytes:
    positions = written.positions_mm()
    if path.name.startswith("def"):
        written.write(path, positions, name="NREG_TRANS")
    elif path.name.startswith("y_"):
        written.write(path, positions, name="Mapping", version=2)
    elif path.suffix == ".nii":
        written.write(path, positions - written.places_mm())
    elif path.suffix == ".mat":
        sitk.WriteTransform(sitk.AffineTransform(3), str(path))
    elif path.suffix == ".json":
        path.write_text('{"transforms": [{"path": "chain.json", "invert": true}]}', encoding="utf-8-sig")
    else:
        sitk.WriteTransform(sitk.CompositeTransform([sitk.AffineTransform(3), field()]), str(path))
    return path.read_bytes()


def mutated(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    # Headers are where the damage is done.
    reach = len(damaged) if rng.random() < 0.3 else min(len(damaged), 600 if len(damaged) < 40_000 else 6_000)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, what = rng.randrange(reach), rng.random()
        if what < 0.6:
            damaged[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif what < 0.8:
            damaged[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
        else:
            del damaged[at : at + rng.randrange(1, 30)]
        reach = max(1, min(reach, len(damaged)))
    return bytes(damaged[: rng.randrange(1, len(damaged))] if rng.random() < 0.1 else damaged)


@pytest.mark.parametrize("name", ["f.nii", "def.nii", "y_.nii", "c.h5", "c.tfm", "a.mat", "chain.json"])
def test_a_damaged_file_gives_a_transform_or_one_error_that_names_it(tmp_path, name):
    content, rng = write_sound(tmp_path / name), random.Random(name)
    refused, start = [], time.perf_counter()
    for i in range(MUTATIONS):
        path = tmp_path / f"{i}-{name}"
        path.write_bytes(mutated(content, rng))
        try:
            load_transform(path)
        except TransformError as error:
            refused.append((path.name, error))
    assert len(refused) > MUTATIONS // 10
    assert [name for name, error in refused if name not in error.what or not error.to_fix] == []
    assert time.perf_counter() - start < SECONDS
