"""Numerical inverses: round trips, and NaN where there is no way back."""

import re
import time

import numpy as np
import pytest
import SimpleITK

from cytonet_pipeline.registration import (
    Affine,
    BSplineField,
    Chain,
    DisplacementField,
    jacobian_determinant,
    load_transform,
)
from cytonet_pipeline.registration.transforms import fields, folds, point_transform
from cytonet_pipeline.registration.transforms.inverse import solve_from_nearby
from cytonet_pipeline.registration.transforms.positions import PositionField
from cytonet_pipeline_tests.registration.conftest import random_field

TEN_MICROMETRES = 0.01


def test_a_strong_field_comes_back_within_ten_micrometres():
    """Fixed-point iteration alone does not converge on such fields: their displacement gradients are near one."""
    field = random_field(seed=5, rms_mm=2.6)
    points = np.random.default_rng(0).uniform(-70, 70, (20_000, 3))
    determinants = jacobian_determinant(field, points, step_mm=0.1)
    assert determinants.min() < 0.4

    back = field.inverse()(field(points))

    sound = determinants > 0.2
    assert np.linalg.norm(back - points, axis=1)[sound].max() < TEN_MICROMETRES


def test_real_chains_come_back_within_ten_micrometres(shared_data):
    points = np.random.default_rng(0).uniform((-70, -105, -60), (70, 70, 80), (20_000, 3))
    for path in (shared_data / "colin27-brains/derivatives/registration").glob("sub-*/*to-MNIColin27*.h5"):
        transform = load_transform(path)
        assert np.linalg.norm(transform.inverse()(transform(points)) - points, axis=1).max() < TEN_MICROMETRES


def test_what_has_no_way_back_comes_back_as_nan():
    """A field that tears: nothing is mapped between the inner part, moved by 10 mm, and the unmoved outside."""
    grid = np.diag([1.0, 1.0, 1.0, 1.0])
    values = np.zeros((3, 30, 30, 30))
    values[0] = 10.0
    inverse = DisplacementField(values, grid).inverse()

    back = inverse(np.array([[20.0, 10.0, 10.0], [5.0, 10.0, 10.0], [-5.0, 10.0, 10.0]]))

    np.testing.assert_allclose(back[0], [10.0, 10.0, 10.0], atol=TEN_MICROMETRES)
    assert np.isnan(back[1]).all()
    np.testing.assert_allclose(back[2], [-5.0, 10.0, 10.0])


@pytest.fixture(scope="module")
def folding_field():
    """In x: turned inside out between −8 and 8, stretched twofold to ±20. y of 4 mm or less has three origins.

    x → −x/2 within ±8, x → 2x ∓ 20 from there to ±20, x → x beyond: the truth is known everywhere.
    """
    x = np.arange(41) * 2.0 - 40
    values = np.zeros((3, 41, 15, 15))
    values[0] = np.interp(x, [-20, -8, 8, 20], [0, 12, -12, 0])[:, None, None]
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    grid[:3, 3] = [-40, -14, -14]
    return DisplacementField(values, grid)


def test_where_a_field_folds_there_is_no_inverse_and_beside_it_there_is(folding_field):
    targets = np.random.default_rng(0).uniform((-39, -13, -13), (39, 13, 13), (5_000, 3))
    x, size = targets[:, 0], np.abs(targets[:, 0])

    back = folding_field.inverse()(targets)

    np.testing.assert_array_equal(np.isnan(back).any(axis=1), size < 4)
    truth = np.where(size < 20, (x + 20 * np.sign(x)) / 2, x)
    unique = size >= 4
    np.testing.assert_allclose(back[unique, 0], truth[unique], atol=TEN_MICROMETRES)


def test_a_round_trip_through_a_fold_is_correct_or_nan(folding_field):
    points = np.random.default_rng(0).uniform((-39, -13, -13), (39, 13, 13), (5_000, 3))

    back = folding_field.inverse()(folding_field(points))

    off = np.linalg.norm(back - points, axis=1)
    np.testing.assert_array_equal(np.isnan(off), np.abs(points[:, 0]) < 12)
    assert np.nanmax(off) < TEN_MICROMETRES


def test_a_field_with_many_folds_never_gives_a_guess():
    """What comes back is where the point came from; what a fold covers comes back as NaN, and only a few times not."""
    field = random_field(seed=7, rms_mm=6.0)
    points = np.random.default_rng(0).uniform(-60, 60, (5_000, 3))
    determinants = jacobian_determinant(field, points, step_mm=1e-3)
    turned, sound = determinants <= 0, determinants > 0.2
    assert turned.sum() > 200

    off = np.linalg.norm(field.inverse()(field(points)) - points, axis=1)

    assert np.nanmax(off[sound]) < TEN_MICROMETRES
    assert np.isnan(off[turned]).mean() > 0.99
    assert np.isnan(off[sound]).mean() < 0.04


def test_an_inverse_of_a_bspline_comes_back():
    values = np.random.default_rng(1).normal(0, 2, (3, 9, 9, 9))
    grid = np.diag([20.0, 20.0, 20.0, 1.0])
    grid[:3, 3] = -80
    spline = BSplineField(values, grid)
    points = np.random.default_rng(0).uniform(-50, 50, (5_000, 3))

    assert np.linalg.norm(spline.inverse()(spline(points)) - points, axis=1).max() < TEN_MICROMETRES


def test_a_chain_is_inverted_member_by_member_from_its_end(gentle_field):
    affine = Affine(np.array([[0, -1.1, 0, 20], [1, 0, 0.2, -5], [0, 0, 0.9, 3], [0, 0, 0, 1.0]]))
    chain = Chain([affine, gentle_field])
    points = np.random.default_rng(0).uniform(-30, 30, (2_000, 3))

    assert np.linalg.norm(chain.inverse()(chain(points)) - points, axis=1).max() < TEN_MICROMETRES
    np.testing.assert_allclose(chain.inverse().inverse()(points), chain(points), atol=1e-9)


def noise(n=40, mm=20.0):
    """A field that is no registration: every voxel goes its own way."""
    values = np.random.default_rng(0).normal(0, mm, (3, n, n, n))
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    grid[:3, 3] = -n
    return DisplacementField(values, grid)


def field_of_positions(field):
    """The same map as a field that holds the positions themselves."""
    index = np.indices(field.values_mm.shape[1:]).reshape(3, -1)
    places = field.grid_to_mm[:3, :3] @ index + field.grid_to_mm[:3, 3:]
    return PositionField(field.values_mm + places.reshape(field.values_mm.shape), field.grid_to_mm)


def test_the_inverse_of_a_field_that_is_none_is_given_up_soon_with_figures(caplog):
    """Its search for folds would take minutes, and hours in a field of the usual size."""
    field = noise()
    points = np.random.default_rng(0).uniform(-30, 30, (2_000, 3))
    start = time.perf_counter()

    inverse = Chain([Affine(np.eye(4)), field]).inverse()

    assert np.isnan(inverse(points)).all()
    assert time.perf_counter() - start < 10
    assert re.search(r"folds space at about \d\d% of its 64,000 grid points", inverse.undefined)
    assert "No inverse is computed" in caplog.text


@pytest.fixture(scope="module")
def barely_inverted():
    """A field that has an inverse at a small part of its places."""
    return noise(n=6, mm=3.0)


@pytest.mark.parametrize("as_positions", [False, True])
def test_the_search_for_an_inverse_that_hardly_exists_is_bounded_over_a_whole_call(
    barely_inverted, monkeypatch, caplog, as_positions
):
    """By a number of points, over all chunks; what is found in the first search stays."""
    field = field_of_positions(barely_inverted) if as_positions else Chain([barely_inverted, Affine(np.eye(4))])
    inverse = field.inverse()
    points = np.random.default_rng(0).uniform(-6, 6, (120, 3))
    expected = inverse(points)
    monkeypatch.setattr(point_transform, "_CHUNK_POINTS", 60)
    monkeypatch.setattr(fields, "_MOST_RESTARTED", 20)
    searched = []

    def counted(forward, targets, solution, unsolved):
        searched.append(len(unsolved))
        return solve_from_nearby(forward, targets, solution, unsolved)

    monkeypatch.setattr(fields, "solve_from_nearby", counted)

    back = inverse(points)

    assert sum(searched) == 20
    given_up = int(re.search(r"and (\d+) are given up and", caplog.text).group(1))
    lost = np.isnan(back).any(axis=1) & np.isfinite(expected).all(axis=1)
    assert 0 < lost.sum() <= given_up < 100
    kept = np.isfinite(back).all(axis=1)
    np.testing.assert_allclose(back[kept], expected[kept], atol=1e-6)


def test_what_comes_back_from_a_field_that_mostly_has_no_inverse_is_where_itk_maps_from(barely_inverted):
    field = barely_inverted
    targets = np.random.default_rng(0).uniform(-6, 6, (120, 3))
    itk = SimpleITK.DisplacementFieldTransform(3)
    image = SimpleITK.GetImageFromArray(
        np.moveaxis(np.float64(field.values_mm), 0, -1).transpose(2, 1, 0, 3), isVector=True
    )
    image.SetOrigin(field.grid_to_mm[:3, 3])
    image.SetSpacing(field.spacing_mm)
    itk.SetDisplacementField(SimpleITK.Cast(image, SimpleITK.sitkVectorFloat64))

    back = field.inverse()(targets)

    found = np.isfinite(back).all(axis=1)
    assert 0.02 < found.mean() < 0.5
    mapped = np.array([itk.TransformPoint(point) for point in back[found]])
    assert np.linalg.norm(mapped - targets[found], axis=1).max() < 2e-5


def test_a_field_with_a_few_folds_keeps_its_inverse_however_many_cells_may_fold(monkeypatch):
    field = random_field(seed=7, rms_mm=8.0, n=16)
    monkeypatch.setattr(folds, "_QUICK_CELLS", 100)
    points = np.random.default_rng(0).uniform(-30, 30, (200, 3))

    assert field.inverse().undefined == ""
    assert np.isfinite(field.inverse()(field(points))).all(axis=1).mean() > 0.8


def test_the_search_for_folds_is_coarser_where_it_would_take_too_long(monkeypatch):
    """Its end is promised for fields of any size; a fold of several voxels is seen at any density."""
    monkeypatch.setattr(folds, "_MOST_PLACES", 30_000)
    evaluated = 0

    def counted(forward, places, *, step_mm):
        nonlocal evaluated
        evaluated += len(places)
        return jacobian_determinant(forward, places, step_mm=step_mm)

    monkeypatch.setattr(folds, "jacobian_determinant", counted)
    field = random_field(seed=7, rms_mm=6.0, n=16)

    assert len(field.folds._places_mm) > 0
    assert 0 < evaluated <= 30_000
