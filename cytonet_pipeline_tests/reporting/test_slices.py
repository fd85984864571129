"""Slices through volumes: positions and sides."""

import numpy as np
import pytest

from cytonet_pipeline.reporting.reference_figure import crossing_segments
from cytonet_pipeline.reporting.slices import AXES, Frame, cut, name_ends
from cytonet_pipeline.reporting.style import new_figure, panels

FRAME = Frame((-10.0, -10.0, -10.0), (10.0, 10.0, 10.0))
RAS = np.array([[1.0, 0, 0, -9.5], [0, 1, 0, -9.5], [0, 0, 1, -9.5], [0, 0, 0, 1]])


def half_space(axis):
    """1 where the coordinate of an axis is positive; voxel centres at -9.5 … 9.5 mm."""
    volume = np.zeros((20, 20, 20))
    volume[(slice(None),) * axis + (slice(10, None),)] = 1
    return volume


@pytest.mark.parametrize("plane", ["coronal", "axial"])
def test_the_left_of_the_subject_is_on_the_left(plane):
    image = cut(half_space(0), RAS, plane, 0.5, FRAME)

    assert (image[:, :10] == 0).all()
    assert (image[:, 10:] == 1).all()


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_superior_is_up(plane):
    image = cut(half_space(2), RAS, plane, 0.5, FRAME)  # first row at the bottom

    assert image[0].max() == 0
    assert image[-1].min() == 1


def test_a_volume_stored_from_right_to_left_looks_the_same():
    """The affine decides, not the index."""
    flipped = RAS.copy()
    flipped[0] = [-1, 0, 0, 9.5]

    np.testing.assert_allclose(
        cut(half_space(0)[::-1], flipped, "axial", 0.5, FRAME), cut(half_space(0), RAS, "axial", 0.5, FRAME)
    )


def test_labels_are_not_averaged():
    volume = np.zeros((20, 20, 20), dtype=np.int32)
    volume[10:] = 1048

    assert set(np.unique(cut(volume, RAS, "coronal", 0.3, FRAME, step_mm=0.7, labels=True))) == {0, 1048}


def test_a_frame_around_a_mask_holds_it_with_its_margin():
    mask = np.zeros((20, 20, 20))
    mask[4:16, 6:14, 10:12] = 1

    frame = Frame.around(mask, RAS, margin_mm=2.0)

    assert frame.low_mm == (-7.5, -5.5, -1.5)
    assert all(high >= low + 4 for low, high in zip(frame.low_mm, frame.high_mm, strict=True))


@pytest.mark.parametrize(("plane", "ends"), [("coronal", "LRIS"), ("axial", "LRPA"), ("sagittal", "PAIS")])
def test_the_edges_are_labelled(plane, ends):
    axes = panels(new_figure("x", 3, 3), 1, 1)[0]
    name_ends(axes, plane)

    assert sorted(text.get_text() for text in axes.texts) == sorted(ends)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plane_cuts_a_sphere_in_a_circle(axis):
    vertices, faces = octahedral_sphere(4)
    segments = crossing_segments(vertices * 50, faces, axis, 30.0)

    other = [a for a in range(3) if a != axis]
    np.testing.assert_allclose(segments[..., axis], 30.0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(segments[..., other], axis=-1), 40.0, rtol=0.02)
    length = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1).sum()
    assert length == pytest.approx(2 * np.pi * 40, rel=0.02)


def test_a_plane_beside_the_surface_cuts_nothing():
    vertices, faces = octahedral_sphere(2)

    assert crossing_segments(vertices, faces, 0, 2.0).shape == (0, 2, 3)
    assert AXES["axial"][0] == 2


def octahedral_sphere(splits):
    """A unit sphere of triangles: an octahedron whose faces are split `splits` times."""
    vertices = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    faces = [[x, y, z] for x in (0, 1) for y in (2, 3) for z in (4, 5)]
    triangles = vertices[faces]
    for _ in range(splits):
        a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        triangles = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    triangles /= np.linalg.norm(triangles, axis=2, keepdims=True)
    return triangles.reshape(-1, 3), np.arange(len(triangles) * 3).reshape(-1, 3)
