"""Quality of a chain: common mistakes must be detected and named."""

import json
from pathlib import Path

import numpy as np
import pytest

from cytonet_pipeline.registration import (
    Affine,
    BrainChain,
    Chain,
    DisplacementField,
    SectionPlacement,
    folded_share,
    jacobian_determinant,
    measure_chain,
)
from cytonet_pipeline.registration.chain.sources import ChainSources
from cytonet_pipeline_tests.registration.conftest import random_field
from cytonet_pipeline_tests.registration.real_brains import MIRROR, NAMES, with_transform


@pytest.mark.parametrize("name", NAMES)
def test_a_correct_chain_passes(real, colin27, name):
    chain, points = real[name].chain, real[name].points_mm
    others = {other: real[other].chain.to_reference for other in real if other != name}

    quality = measure_chain(chain, colin27, points, others=others)

    assert quality.passed, quality.description
    assert quality.given.misfit < 0.3
    assert quality.given.on_cortex_share > 0.99
    assert quality.given.inside_brain_share > 0.99
    assert quality.given.jacobian_min > 0.5
    assert quality.given.folded_share == 0
    assert quality.round_trip.p95_mm < 0.05
    json.dumps(quality.as_dict(), allow_nan=False)


@pytest.mark.parametrize(("name", "other"), [("B01", "B02"), ("B02", "B20"), ("B20", "B01")])
def test_exchanged_files_of_two_brains_are_named(real, colin27, name, other):
    chain, points = real[name].chain, real[name].points_mm
    exchanged = with_transform(chain, real[other].chain.to_reference)

    quality = measure_chain(exchanged, colin27, points, others={other: chain.to_reference})

    assert not quality.passed
    assert f"another brain: that of sub-{other} fits" in quality.description


@pytest.mark.parametrize("name", NAMES)
def test_a_chain_of_another_brain_fails_even_when_the_right_one_is_not_available(real, colin27, name):
    chain, points = real[name].chain, real[name].points_mm[::2]
    for other in real.keys() - {name}:
        quality = measure_chain(with_transform(chain, real[other].chain.to_reference), colin27, points)
        assert not quality.passed


def test_misfit_grows_with_the_error_until_the_chain_fails(real, colin27):
    """Promised: an error of about 2 mm is detected, one of 1 mm is not reported as a fault."""
    chain, points = real["B02"].chain, real["B02"].points_mm[::2]
    error = random_field(seed=11, rms_mm=1.0, spacing_mm=12.0)
    shift = error(points) - points
    scale = np.linalg.norm(shift, axis=1).mean()

    qualities = {}
    for size_mm in (0.0, 1.0, 2.3, 3.5):
        off = DisplacementField(error.values_mm * size_mm / scale, error.grid_to_mm)
        qualities[size_mm] = measure_chain(with_transform(chain, Chain([off, chain.to_reference])), colin27, points)

    assert [quality.passed for quality in qualities.values()] == [True, True, False, False]
    misfits = [quality.given.misfit for quality in qualities.values()]
    assert misfits == sorted(misfits)


@pytest.fixture
def toy(reference):
    """A chain to the toy reference with its correct inverse, and points of that brain's cortex."""
    right = random_field(seed=2, rms_mm=2.5, spacing_mm=8.0)
    matrix = np.array([[1.0, 0, 0, -80], [0, 0, 0, 0], [0, -1, 0, 70]])
    sections = {
        str(i): SectionPlacement(str(i), matrix + 4.0 * i * np.outer([0, 1, 0], [0, 0, 0, 1])) for i in range(3)
    }
    chain = BrainChain("T1", sections, right, right.inverse())
    return chain, right.inverse()(reference.cortex_points(1_500, seed=1))


def test_an_inverse_that_belongs_to_another_transform_fails(reference, toy):
    chain, points = toy
    mismatched = with_transform(
        chain, chain.to_reference, inverse=random_field(seed=9, rms_mm=2.5, spacing_mm=8.0).inverse()
    )

    quality = measure_chain(mismatched, reference, points)

    assert not quality.passed
    assert "inverse does not belong" in quality.description


def test_without_masks_it_is_noted_that_the_direction_was_not_checked(reference, toy):
    chain, _ = toy

    quality = measure_chain(chain, reference, np.empty((0, 3)))

    assert quality.passed
    assert any("not checked" in note for note in quality.notes)
    assert quality.as_dict()["misfit"] is None


def test_the_series_is_described(reference, toy):
    chain, points = toy

    quality = measure_chain(chain, reference, points)

    assert quality.median_gap_mm == pytest.approx(4.0)
    assert quality.in_plane_scale == pytest.approx({"0": 1.0, "1": 1.0, "2": 1.0})
    assert quality.reflected == ()


def test_the_jacobian_of_an_affine_is_its_determinant():
    matrix = np.array([[1.1, 0.2, 0, 5], [-0.1, 0.8, 0.3, 0], [0, 0.1, 1.2, -3], [0, 0, 0, 1]])
    points = np.random.default_rng(0).normal(0, 40, (50, 3))

    np.testing.assert_allclose(jacobian_determinant(Affine(matrix), points), np.linalg.det(matrix[:3, :3]))
    assert folded_share(MIRROR, points) == 1
    assert np.isnan(folded_share(MIRROR, points[:0]))


def test_a_folding_field_is_measured():
    """A displacement of −1.5 x turns the middle inside out: the determinant is −0.5 there, 1 outside."""
    values = np.zeros((3, 41, 41, 41))
    values[0] = -1.5 * (np.arange(41) - 20.0)[:, None, None]
    field = DisplacementField(values, np.array([[1.0, 0, 0, -20], [0, 1, 0, -20], [0, 0, 1, -20], [0, 0, 0, 1]]))
    inside = np.random.default_rng(0).uniform(-15, 15, (100, 3))

    np.testing.assert_allclose(jacobian_determinant(field, inside), -0.5)
    assert folded_share(field, np.concatenate([inside, inside + 100])) == 0.5


def test_a_transform_without_an_inverse_fails_with_its_file_and_figures(reference):
    """Such as a field of positions that is taken for displacements; the table of matrices is not to blame."""
    values = np.random.default_rng(0).normal(0, 20, (3, 40, 40, 40))
    grid = np.diag([4.0, 4.0, 4.0, 1.0])
    grid[:3, 3] = -80
    field = DisplacementField(values, grid)
    sources = ChainSources(Path("/data/sub-B07_xfm.nii.gz"))
    section = SectionPlacement("1", np.array([[1.0, 0, 0, -30], [0, 0, 0, 10], [0, -1, 0, 30]]))
    chain = BrainChain("B07", {"1": section}, field, field.inverse(), sources)
    points = np.random.default_rng(0).uniform((10, -20, -20), (50, 20, 20), (300, 3))

    quality = measure_chain(chain, reference, points)

    assert not quality.passed
    assert "300 of 300 cortex points do not come back" in quality.description
    assert "folds space at about" in quality.description
    assert "sub-B07_xfm.nii.gz" in quality.description
    json.dumps(quality.as_dict(), allow_nan=False)
