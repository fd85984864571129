"""Annotations as GeoJSON: exact, with holes, by number or by name; each fault named with its file and feature."""

import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from cytonet_pipeline.dataset import Areas, Dataset
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import survey
from cytonet_pipeline.histology.annotations.contours import Contours
from cytonet_pipeline.settings import DatasetBlock
from cytonet_pipeline_tests.dataset.tiny import PIXEL_UM, TinyDataset

AREAS = Areas(frozenset({1, 5, 7, 1004}), {"hOc1": 1, "4p left": 5, "Visual: hOc2:left": 7})
SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30], [10, 10]]
HOLE = [[15, 15], [20, 15], [20, 20], [15, 20], [15, 15]]


def feature(rings=(SQUARE,), kind="Polygon", **properties):
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": list(rings)}, "properties": properties}


def in_plane(z):
    made = feature(index=1)
    made["geometry"] |= {"plane": {"c": -1, "z": z, "t": 0}}
    return made


def write(path, *features, **members):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features), **members}))
    return path


def opened(path, areas=AREAS):
    """A scan of 80 × 60 px, 100 µm each."""
    return Contours.open(path, 8.0, 6.0, 100.0, areas)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sub-B01_sample-0010_desc-areas_dseg.geojson"


def test_a_point_in_a_hole_is_outside(path):
    contours = opened(write(path, feature([SQUARE, HOLE], index=5)))

    assert contours.at_mm([1.2, 1.7, 0.5], [1.2, 1.7, 1.2]).tolist() == [5, 0, 0]


def test_every_part_of_a_multipolygon_counts(path):
    moved = [[x + 40, y] for x, y in SQUARE]
    contours = opened(write(path, feature([[SQUARE, HOLE], [moved]], "MultiPolygon", index=1004)))

    assert contours.at_mm([1.2, 1.7, 5.2], [1.2, 1.7, 1.2]).tolist() == [1004, 0, 1004]


def test_points_are_looked_up_exactly(path):
    """Against matplotlib, on a contour with many vertices."""
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    radius = 15 + 8 * np.sin(7 * angles)
    outline = np.stack([40 + radius * np.cos(angles), 30 + radius * np.sin(angles)], axis=1)
    outline = np.concatenate([outline, outline[:1]])
    x, y = np.random.default_rng(0).uniform(0, [[8.0], [6.0]], (2, 5000))

    found = opened(write(path, feature([outline.tolist()], index=1))).at_mm(x, y)

    np.testing.assert_array_equal(found > 0, Outline(outline / 10).contains_points(np.stack([x, y], axis=1)))
    assert 0 < (found > 0).mean() < 1


@pytest.mark.parametrize(
    ("properties", "area"),
    [
        ({"index": 1004}, 1004),
        ({"classification": {"name": "hOc1", "color": [1, 2, 3]}, "objectType": "annotation"}, 1),
        ({"name": "4p left"}, 5),
        ({"classification": {"name": "unheard of"}, "name": "hOc1"}, 1),
        ({"classification": "hOc1"}, 1),
        ({"classification": {"names": ["hOc1"], "color": [1, 2, 3]}}, 1),
        ({"classification": {"names": ["Visual", "hOc2: left"], "color": [1, 2, 3]}}, 7),
        ({"classification": "Visual:hOc2 :left"}, 7),
        ({"classification": {"name": "left", "colorRGB": -1, "parentClass": {"names": ["Visual", "hOc2"]}}}, 7),
        ({"classification": {"name": "hOc1", "colorRGB": -3670016}}, 1),
        ({"classification": None, "name": "hOc1"}, 1),
    ],
)
def test_an_area_is_known_by_number_or_name_as_qupath_writes_it(path, properties, area):
    assert opened(write(path, feature(**properties))).at_mm(1.2, 1.2) == area


def test_of_overlapping_polygons_the_last_counts(path):
    contours = opened(write(path, feature(index=1), feature([HOLE], index=5)))

    assert contours.at_mm([1.2, 1.7], [1.2, 1.7]).tolist() == [1, 5]


@pytest.mark.parametrize(("unit", "factor"), [("px", 1.0), ("um", 100.0), ("mm", 0.1)])
def test_coordinates_may_have_other_units(path, unit, factor):
    scaled = [[x * factor, y * factor] for x, y in SQUARE]

    assert opened(write(path, feature([scaled], index=1), unit=unit)).at_mm([2.9, 3.1], [2.9, 2.9]).tolist() == [1, 0]


def test_a_derived_class_counts_as_a_whole_and_its_base_is_not_taken_for_it(path):
    derived = {"names": ["hOc1", "Damaged"], "color": [0, 0, 0]}

    contours = opened(write(path, feature(classification=derived), feature([HOLE], classification={"name": "hOc1"})))

    assert contours.unknown == ("hOc1: Damaged",)
    assert contours.at_mm([1.2, 1.7], [1.2, 1.7]).tolist() == [0, 1]


def test_the_plane_of_a_scan_is_no_other_plane(path):
    assert opened(write(path, in_plane(0))).at_mm(1.2, 1.2) == 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_features_give_labels_or_a_scan_error(path, data):
    """Values of all kinds at all places of a file as QuPath writes it."""
    classes = [{"names": ["Visual", "hOc2", "left"]}, "hOc1", {"name": "left", "parentClass": {"name": "hOc1"}}]
    made = json.loads(json.dumps({"features": [feature([SQUARE, HOLE], classification=c) for c in classes]}))
    odd = st.sampled_from([None, 0, -1, 1.7, 1e308, "", "x" * 300, [], {}, [[]], True, {"name": [1]}, "NaN"])
    for _ in range(data.draw(st.integers(1, 3))):
        place = made
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
                place[key] = copy.deepcopy(data.draw(odd))
                break
            place = place[key]
    path.write_text(json.dumps(made))

    try:
        assert set(opened(path).at_mm([1.2, 1.7, 5.0], [1.2, 1.7, 5.0]).tolist()) <= {0, 1, 7}
    except ScanError as error:
        assert str(path) in error.what  # noqa: PT017


def test_a_bare_list_of_features_and_a_single_one_are_read(path):
    path.write_text(json.dumps([feature(index=1)]))
    assert opened(path).at_mm(1.2, 1.2) == 1
    path.write_text(json.dumps(feature(index=1)))
    assert opened(path).at_mm(1.2, 1.2) == 1


def test_areas_that_the_table_lacks_are_listed_and_left_out(path):
    contours = opened(write(path, feature(index=77), feature(name="nowhere"), feature([HOLE], index=1)))

    assert contours.unknown == ("77", "nowhere")
    assert contours.at_mm([1.2, 1.7], [1.2, 1.7]).tolist() == [0, 1]


BOW_TIE = [[10, 10], [30, 30], [30, 10], [10, 30], [10, 10]]


def test_a_contour_that_crosses_itself_encloses_both_its_loops(path):
    contours = opened(write(path, feature([BOW_TIE], index=1)))

    assert contours.at_mm([1.2, 2.8, 2.0, 2.0], [2.0, 2.0, 1.2, 2.8]).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (feature(index=1.7, name="M1"), r"feature 2 \(M1\): its index is 1.7"),
        (feature(classification={}), "feature 2: does not say which area"),
        (feature(classification=["hOc1"]), "feature 2: does not say which area"),
        (feature(objectType="cell"), "feature 2: does not say which area"),
        (in_plane(3), "feature 2: lies in z-slice 3 at time 0"),
        (feature(index=0, name="M1"), r"feature 2 \(M1\): its index is 0"),
        (feature(), "feature 2: does not say which area"),
        (feature([[10, 10], [20, 20]], "LineString", index=1), "feature 2: is a LineString"),
        ({"type": "Feature", "geometry": None, "properties": {"index": 1}}, "feature 2: is a None"),
        (feature([[["a", 1], [2, 3], [4, 5], ["a", 1]]], index=1), "feature 2: its coordinates cannot be read"),
        (feature([[[1, 1], [2, 2]]], index=1), "feature 2: its coordinates cannot be read"),
        (feature([[[x * 10, y * 10] for x, y in SQUARE]], index=1), r"feature 2: reaches to \(30.0, 30.0\) mm"),
    ],
)
def test_a_faulty_feature_is_named_with_its_file(path, broken, message):
    write(path, feature(index=1), broken)

    with pytest.raises(ScanError, match=message) as fault:
        opened(path)

    assert str(path) in fault.value.what
    assert fault.value.to_fix


@pytest.mark.parametrize(
    "text", ["{", '"text"', "null", "7", '{"a": 1}', "[1]", '{"features": [{"type": "Point"}]}', '{"unit": "inch"}']
)
def test_a_file_that_is_no_geojson_is_refused(path, text):
    path.write_text(text)

    with pytest.raises(ScanError, match=path.name):
        opened(path)


def test_contours_beside_the_label_images_are_taken_up(tmp_path):
    """The ring of the tiny brain as two circles; the survey treats it as it treats a label image."""
    tiny = TinyDataset(tmp_path / "brains").write()
    tiny.annotation("0010").unlink()
    path = tiny.annotation("0020").with_suffix(".geojson")
    angles = np.linspace(0, 2 * np.pi, 90)
    circles = [np.stack([70.5 + r * np.cos(angles), 60.5 + r * np.sin(angles)], axis=1).tolist() for r in (40, 28)]
    write(path, feature(circles, classification={"name": "Area 1"}))
    block = DatasetBlock(density_per_mm3=1, held_out="B01")

    brain = Dataset(tiny.root, block).brain("B01")
    row = survey(brain, block).set_index("sample").loc["0020"]

    assert brain.sections[1].annotation == path
    assert (row["status"], row["annotation_path"]) == ("ok", f"derivatives/annotation/sub-B01/micr/{path.name}")
    assert PIXEL_UM == 100.0

    write(path, feature([[[x + 60, y] for x, y in circles[0]]], classification={"name": "Area 1"}))
    row = survey(Dataset(tiny.root, block).brain("B01"), block).set_index("sample").loc["0020"]
    assert row["status"] == "rejected"
    assert path.name in row["reason"]
