"""Warps of the scan plane."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration import load_plane_transform

POINTS = np.random.default_rng(0).uniform(0, 150, (5_000, 2))


@pytest.fixture
def turned(tmp_path):
    """A rotation by 90° about the warp's own origin."""
    path = tmp_path / "turn.tfm"
    sitk.WriteTransform(sitk.Euler2DTransform((0, 0), np.pi / 2), str(path))
    return path


def test_a_real_warp_agrees_with_itk_without_any_flip(shared_data):
    paths = sorted((shared_data / "colin27-brains/derivatives/registration/sub-B02/warps").glob("*.h5"))
    assert paths
    for path in paths:
        theirs = sitk.ReadTransform(str(path))
        expected = np.array([theirs.TransformPoint(point) for point in POINTS.tolist()])
        moved = load_plane_transform(path)(POINTS)
        assert np.abs(moved - expected).max() < 1e-3
        assert np.abs(moved - POINTS).max() > 0.05


def test_a_real_warp_comes_back(shared_data):
    for path in (shared_data / "colin27-brains/derivatives/registration/sub-B02/warps").glob("*.h5"):
        warp = load_plane_transform(path)
        assert np.linalg.norm(warp.inverse()(warp(POINTS)) - POINTS, axis=1).max() < 0.01


def test_from_the_corner_a_warp_is_taken_as_it_stands(turned):
    np.testing.assert_allclose(load_plane_transform(turned)(np.array([[1.0, 0.0]])), [[0.0, 1.0]], atol=1e-12)


def test_from_the_centre_the_middle_of_the_first_pixel_stays_where_it_is(turned):
    """Image registrations call the centre of the first pixel (0, 0)."""
    warp = load_plane_transform(turned, "centre", pixel_um=64.0)

    np.testing.assert_allclose(
        warp(np.array([[0.032, 0.032], [1.032, 0.032]])), [[0.032, 0.032], [0.032, 1.032]], atol=1e-12
    )


def test_from_the_centre_the_pixel_size_must_be_known(turned):
    with pytest.raises(TransformError, match="size of the scan's pixels"):
        load_plane_transform(turned, "centre")


@pytest.mark.parametrize("origin", ["corner", "centre"])
def test_warps_of_images_agree_with_itk_in_either_convention(tmp_path, origin):
    """ITK in the physical space of an image whose first pixel is centred at (0, 0), or lies at half a pixel."""
    pixel_um = 500.0
    half_mm = 0.25
    image = sitk.GetImageFromArray(np.random.default_rng(3).normal(0, 2, (20, 24, 2)), isVector=True)
    image.SetSpacing((8.0, 8.0))
    theirs = sitk.CompositeTransform(
        [
            sitk.Euler2DTransform((40, 30), 0.1, (1.0, -2.0)),
            sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64)),
        ]
    )
    sitk.WriteTransform(theirs, str(tmp_path / "warp.h5"))
    scan = sitk.Image(400, 300, sitk.sitkUInt8)
    scan.SetSpacing((pixel_um / 1000, pixel_um / 1000))
    scan.SetOrigin((0.0, 0.0) if origin == "centre" else (half_mm, half_mm))
    pixels = np.random.default_rng(4).integers(0, (400, 300), (2_000, 2))

    ours = load_plane_transform(tmp_path / "warp.h5", origin, pixel_um)((pixels + 0.5) * pixel_um / 1000)

    moved = [theirs.TransformPoint(scan.TransformIndexToPhysicalPoint(p)) for p in pixels.tolist()]
    expected = np.array([scan.TransformPhysicalPointToContinuousIndex(p) for p in moved])
    assert np.abs(ours - (expected + 0.5) * pixel_um / 1000).max() < 1e-3
