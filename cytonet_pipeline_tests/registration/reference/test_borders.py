"""Borders of the atlas: faces between two areas of a hemisphere, and how far points are from them."""

import numpy as np
import pandas as pd
import pytest

from cytonet_pipeline.registration import ReferenceSpace
from cytonet_pipeline.registration.reference.borders import border_points_mm, distance_to_borders_mm

LABELS = pd.DataFrame(
    [
        (1, "L", 1, "area"),
        (2, "L", 2, "area"),
        (3, "L", 3, "gap"),
        (4, "L", 4, "subcortical"),
        (1001, "R", 1, "area"),
        (1002, "R", 2, "area"),
    ],
    columns=["index", "hemisphere", "area", "kind"],
)
AFFINE = np.array([[0.0, -2, 0, 7], [3, 0, 0, -20], [0, 0, 1.5, 4], [0, 0, 0, 1]])


def brute_force(labels, points_mm, hemispheres):
    """Look at every pair of neighbouring voxels, one after the other, in float64."""
    label_of = LABELS.set_index("index").to_dict("index")
    middles = {"L": [], "R": []}
    for index in np.ndindex(labels.shape):
        for axis in range(3):
            other = list(index)
            other[axis] += 1
            if other[axis] >= labels.shape[axis]:
                continue
            pair = [label_of.get(int(labels[tuple(place)]), {"kind": ""}) for place in (index, other)]
            areas = all(label["kind"] == "area" for label in pair)
            if areas and pair[0]["hemisphere"] == pair[1]["hemisphere"] and pair[0]["area"] != pair[1]["area"]:
                middle = (np.array(index) + np.array(other)) / 2
                middles[pair[0]["hemisphere"]].append(AFFINE[:3, :3] @ middle + AFFINE[:3, 3])
    return [
        min((np.linalg.norm(point - middle) for middle in middles[hemisphere]), default=np.inf)
        for point, hemisphere in zip(points_mm, hemispheres, strict=True)
    ]


def test_distances_equal_those_of_a_loop_over_all_pairs_of_voxels():
    random = np.random.default_rng(0)
    labels = random.choice([0, 1, 2, 3, 4, 1001, 1002], (5, 4, 6)).astype(np.int32)
    points = random.uniform(-30, 20, (40, 3))
    hemispheres = random.choice(["L", "R"], 40)

    distances = distance_to_borders_mm(points, hemispheres, border_points_mm(labels, AFFINE, LABELS))

    assert distances == pytest.approx(brute_force(labels, points, hemispheres), rel=1e-12)


@pytest.mark.parametrize("neighbour", [0, 3, 4, 1002], ids=["rim", "gap", "subcortical", "other hemisphere"])
def test_only_two_areas_of_one_hemisphere_have_a_border(neighbour):
    """The outer rim of the cortex is near every patch: as a border it would make all patches border patches."""
    labels = np.ones((2, 2, 2), np.int32)
    labels[1] = neighbour

    borders = border_points_mm(labels, np.eye(4), LABELS)

    assert len(borders["L"]) == len(borders["R"]) == 0
    assert distance_to_borders_mm(np.zeros((1, 3)), np.array(["L"]), borders).tolist() == [np.inf]


def test_a_point_without_a_place_has_no_distance():
    labels = np.array([[[1, 2]]], np.int32)
    borders = border_points_mm(labels, np.eye(4), LABELS)

    distances = distance_to_borders_mm(np.array([[0, 0, 0.5], [np.nan, 0, 0]]), np.array(["L", "L"]), borders)

    assert distances[0] == 0
    assert np.isnan(distances[1])


def test_the_reference_measures_in_its_own_mm(reference_folder):
    reference = ReferenceSpace.load(reference_folder)
    labels, affine = reference.atlas()
    borders = border_points_mm(labels, affine, reference.atlas_labels)["L"]

    at_borders = reference.border_distance_mm(borders[:5], np.full(5, "L"))
    outward = reference.border_distance_mm(borders[:5] - [40.0, 0, 0], np.full(5, "L"))

    assert len(borders) > 0
    assert at_borders == pytest.approx(np.zeros(5))
    assert (outward > 1).all()
