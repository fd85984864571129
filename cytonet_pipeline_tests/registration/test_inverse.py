"""Numerical inverses: there and back, and honesty where there is no way back."""

import numpy as np

from cytonet_pipeline.registration import Affine, Chain, DisplacementField, jacobian_determinant, load_transform
from cytonet_pipeline_tests.registration.conftest import random_field

TEN_MICROMETRES = 0.01


def test_a_strong_field_comes_back_within_ten_micrometres():
    """Fixed-point iteration alone gives up on such fields: displacement gradients near one."""
    field = random_field(seed=5, rms_mm=2.6)
    points = np.random.default_rng(0).uniform(-70, 70, (20_000, 3))
    determinants = jacobian_determinant(field, points, step_mm=0.1)
    assert determinants.min() < 0.4

    back = field.inverse()(field(points))

    sound = determinants > 0.2
    assert np.linalg.norm(back - points, axis=1)[sound].max() < TEN_MICROMETRES


def test_real_chains_come_back_within_ten_micrometres(data):
    points = np.random.default_rng(0).uniform((-70, -105, -60), (70, 70, 80), (20_000, 3))
    for path in (data / "colin27-brains/derivatives/registration").glob("sub-*/*to-MNIColin27*.h5"):
        transform = load_transform(path)
        assert np.linalg.norm(transform.inverse()(transform(points)) - points, axis=1).max() < TEN_MICROMETRES


def test_what_has_no_way_back_comes_back_as_nan():
    """A field that tears: nothing is mapped between the inner part, moved by 10 mm, and what lies still."""
    grid = np.diag([1.0, 1.0, 1.0, 1.0])
    values = np.zeros((3, 30, 30, 30))
    values[0] = 10.0
    inverse = DisplacementField(values, grid).inverse()

    back = inverse(np.array([[20.0, 10.0, 10.0], [5.0, 10.0, 10.0], [-5.0, 10.0, 10.0]]))

    np.testing.assert_allclose(back[0], [10.0, 10.0, 10.0], atol=TEN_MICROMETRES)
    assert np.isnan(back[1]).all()
    np.testing.assert_allclose(back[2], [-5.0, 10.0, 10.0])


def test_a_folded_field_never_gives_a_guess():
    """Whatever comes back is a solution: the field leads from there to the target."""
    field = random_field(seed=7, rms_mm=6.0)
    targets = np.random.default_rng(0).uniform(-60, 60, (5_000, 3))
    assert (jacobian_determinant(field, targets, step_mm=0.1) <= 0).any()

    back = field.inverse()(targets)

    found = np.isfinite(back).all(axis=1)
    assert found.mean() > 0.98
    assert np.linalg.norm(field(back[found]) - targets[found], axis=1).max() < TEN_MICROMETRES


def test_a_chain_is_inverted_member_by_member_from_its_end(gentle_field):
    affine = Affine(np.array([[0, -1.1, 0, 20], [1, 0, 0.2, -5], [0, 0, 0.9, 3], [0, 0, 0, 1.0]]))
    chain = Chain([affine, gentle_field])
    points = np.random.default_rng(0).uniform(-30, 30, (2_000, 3))

    assert np.linalg.norm(chain.inverse()(chain(points)) - points, axis=1).max() < TEN_MICROMETRES
    np.testing.assert_allclose(chain.inverse().inverse()(points), chain(points), atol=1e-9)
