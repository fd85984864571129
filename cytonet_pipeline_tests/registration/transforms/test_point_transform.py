"""Point transforms against SimpleITK, point by point."""

import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration import Affine, Chain, load_transform
from cytonet_pipeline.registration.transforms import point_transform
from cytonet_pipeline.registration.transforms.itk import from_itk
from cytonet_pipeline_tests.registration.conftest import LPS

MICROMETRE = 1e-3


def itk_points(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in (points * LPS).tolist()]) * LPS


def oblique_field(seed: int) -> sitk.DisplacementFieldTransform:
    random = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(random.normal(0, 5, (12, 15, 18, 3)), isVector=True)
    image.SetSpacing((3.0, 4.0, 5.0))
    image.SetOrigin((-20.0, 10.0, -30.0))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5)
    image.SetDirection(turn.GetMatrix())
    return sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))


def test_a_displacement_field_agrees_with_itk_inside_and_outside_an_oblique_grid():
    """100,000 points, most of them outside: ITK displaces nothing there."""
    theirs = oblique_field(seed=1)
    points = np.random.default_rng(2).uniform(-90, 90, (100_000, 3))

    moved = from_itk(theirs)(points)

    expected = itk_points(theirs, points)
    assert 2_000 < np.count_nonzero(np.any(expected != points, axis=1)) < 50_000
    assert np.abs(moved - expected).max() < MICROMETRE


def test_the_outer_half_voxel_of_a_field_agrees_with_itk():
    """ITK's buffer reaches half a voxel beyond the outermost centres, where the border value holds."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 4, (5, 6, 7, 3)), isVector=True)
    image.SetSpacing((2.0, 2.0, 2.0))
    theirs = sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))
    x = np.concatenate([np.linspace(-2.5, 0.5, 301), np.linspace(11.5, 14.5, 301), [-1.0, 13.0]])
    points = np.column_stack([x, np.full_like(x, 3.3), np.full_like(x, 4.1)]) * LPS

    assert np.abs(from_itk(theirs)(points) - itk_points(theirs, points)).max() < MICROMETRE


def test_a_bspline_agrees_with_itk():
    """100,000 points inside and outside."""
    image = sitk.Image(60, 50, 40, sitk.sitkFloat32)
    image.SetSpacing((2.0, 2.5, 3.0))
    theirs = sitk.BSplineTransformInitializer(image, (5, 6, 4), 3)
    theirs.SetParameters(np.random.default_rng(1).normal(0, 3, len(theirs.GetParameters())))
    points = np.random.default_rng(2).uniform(-20, 140, (100_000, 3)) * LPS

    assert np.abs(from_itk(theirs)(points) - itk_points(theirs, points)).max() < MICROMETRE


def test_a_composite_applies_its_last_transform_first():
    affine = sitk.AffineTransform([1.1, 0.2, 0, -0.1, 0.9, 0.1, 0, 0.3, 1.0], [5, -6, 7], [10, 20, 30])
    field = oblique_field(seed=3)
    nested = sitk.CompositeTransform(
        [sitk.TranslationTransform(3, (1, 2, 3)), sitk.CompositeTransform([field, affine])]
    )
    points = np.random.default_rng(2).uniform(-60, 60, (5_000, 3))

    assert np.abs(from_itk(nested)(points) - itk_points(nested, points)).max() < MICROMETRE


@pytest.mark.parametrize(
    "theirs",
    [
        sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6)),
        sitk.Similarity3DTransform(1.3, (0, 0, 1), 0.4, (1, 2, 3), (9, 8, 7)),
        sitk.ScaleVersor3DTransform((1.1, 1.2, 0.9), (0, 1, 0), 0.2, (3, 2, 1)),
        sitk.Transform(3, sitk.sitkIdentity),
    ],
    ids=lambda transform: transform.GetName(),
)
def test_linear_itk_transforms_become_one_matrix(theirs):
    points = np.random.default_rng(0).uniform(-100, 100, (500, 3))

    ours = from_itk(theirs)

    assert isinstance(ours, Affine)
    assert np.abs(ours(points) - itk_points(theirs, points)).max() < 1e-9


def test_real_chains_agree_with_itk(shared_data):
    files = sorted((shared_data / "colin27-brains/derivatives/registration").glob("sub-*/*.h5"))
    files += [shared_data / "xfm" / name for name in ("affine-antsComposite.h5", "mni2colin_0GenericAffine.mat")]
    assert len(files) >= 5
    points = np.random.default_rng(0).uniform(-180, 180, (20_000, 3))
    for path in files:
        assert (
            np.abs(load_transform(path)(points) - itk_points(sitk.ReadTransform(str(path)), points)).max() < MICROMETRE
        )


def test_a_missing_coordinate_gives_a_missing_point(gentle_field):
    chain = Chain([Affine(np.diag([1.0, 2.0, 3.0, 1.0])), gentle_field, gentle_field.inverse()])
    points = np.zeros((4, 3))
    points[1, 2] = np.nan

    moved = chain(points)

    assert np.isnan(moved[1]).all()
    assert np.isfinite(moved[[0, 2, 3]]).all()


def test_a_mapped_point_does_not_depend_on_the_other_points(gentle_field):
    """Points are mapped in chunks by two threads: the borders of chunks must not show."""
    points = np.random.default_rng(0).uniform(-70, 70, (300_000, 3))

    together = gentle_field(points)

    some = np.random.default_rng(1).integers(0, len(points), 500)
    np.testing.assert_array_equal(together[some], gentle_field(points[some]))


def test_a_digest_follows_what_a_transform_does():
    first, second = from_itk(oblique_field(seed=1)), from_itk(oblique_field(seed=1))

    assert first.digest == second.digest
    assert first.digest != from_itk(oblique_field(seed=2)).digest
    assert first.digest != first.inverse().digest


def test_an_empty_array_of_points_is_allowed(gentle_field):
    assert Chain([gentle_field, gentle_field.inverse()])(np.empty((0, 3))).shape == (0, 3)


def test_a_singular_matrix_is_refused():
    with pytest.raises(TransformError, match="singular"):
        Affine(np.diag([1.0, 0.0, 1.0, 1.0]))


def test_points_of_another_shape_are_an_error_of_the_caller(gentle_field):
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        gentle_field(np.zeros((4, 2)))


def test_memory_does_not_grow_with_the_number_of_points(gentle_field, monkeypatch):
    """Beyond input and output, four times as many points need no more memory: what one chunk per thread needs."""
    monkeypatch.setattr(point_transform, "_CHUNK_POINTS", 1 << 13)
    chain = Chain([Affine(np.diag([1.1, 1.0, 0.9, 1.0])), gentle_field, gentle_field.inverse()])
    chain(np.zeros((10, 3)))

    beyond = []
    for count in (40_000, 160_000):
        points = np.random.default_rng(0).uniform(-60, 60, (count, 3)).astype(np.float32)
        tracemalloc.start()
        mapped = chain(points)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        beyond.append(peak - mapped.nbytes)

    assert beyond[1] < 1.2 * beyond[0]
    assert beyond[1] < 100e6 / 8
