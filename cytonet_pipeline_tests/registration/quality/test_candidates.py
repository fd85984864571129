"""Every common mistake with transforms, on every real brain: named wherever it costs more than 2 mm."""

import itertools

import numpy as np
import pytest

from cytonet_pipeline.registration import Affine, BrainChain, Chain, DisplacementField, load_transform, measure_chain
from cytonet_pipeline.registration.quality.hemispheres import AnnotatedPoints, fit_hemispheres
from cytonet_pipeline_tests.registration.real_brains import FLIP, MIRROR, NAMES, with_transform

PROMISED_MM = 2.0


def in_lps(transform):
    return Chain([FLIP, transform, FLIP])


def faults(right):
    """Faulty transforms by the name of the fault in the diagnosis; `right` is a warp followed by an affine."""
    warp, affine = right.members
    lps_affine = Affine(FLIP.matrix @ affine.matrix @ FLIP.matrix)
    return {
        "is given backwards": right.inverse(),
        "the transform was written for RAS but stands in an ITK file": in_lps(right),
        "leads to LPS instead of RAS": Chain([right, FLIP]),
        "matrices of the sections lead to LPS": Chain([FLIP, right]),
        "left and right of the brain are exchanged": Chain([MIRROR, right]),
        "the affine was written for RAS but stands in an ITK file": Chain([warp, lps_affine]),
        "the affine is taken the wrong way round": Chain([warp, affine.inverse()]),
        "the inverse of the displacement field is taken the wrong way round": Chain([warp.inverse(), affine]),
    }


def error_mm(faulty, right, points):
    return np.linalg.norm(faulty(points) - right(points), axis=1).mean()


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.long) for name in NAMES[1:])])
def test_a_mistake_that_costs_more_than_two_millimetres_is_named(real, colin27, name):
    """And one that costs less is at least never given another name."""
    chain, points = real[name].chain, real[name].points_mm[::2]
    above = 0
    for mistake, faulty in faults(chain.to_reference).items():
        quality = measure_chain(with_transform(chain, faulty), colin27, points)
        if error_mm(faulty, chain.to_reference, points) > PROMISED_MM:
            above += 1
            assert not quality.passed, mistake
        assert quality.passed or mistake in quality.description, quality.description
    assert above >= 7


@pytest.mark.parametrize("name", NAMES)
def test_warp_and_inverse_warp_exchanged_are_named_once_the_warp_is_strong(real, colin27, name):
    """The brains' own warps are gentle: exchanging them costs 1 mm, and 2 to 4 mm if they are four times as strong."""
    chain = real[name].chain
    warp, affine = chain.to_reference.members
    right = Chain([DisplacementField(4 * warp.values_mm, warp.grid_to_mm), affine])
    points = right.inverse()(chain.to_reference(real[name].points_mm[::2]))
    points = points[np.isfinite(points).all(axis=1)]
    exchanged = Chain([right.members[0].inverse(), affine])

    assert measure_chain(with_transform(chain, right), colin27, points).passed
    quality = measure_chain(with_transform(chain, exchanged), colin27, points)

    assert error_mm(exchanged, right, points) > PROMISED_MM
    assert "displacement field is taken the wrong way round" in quality.description


def test_small_mistakes_are_named_where_both_directions_are_given(real, colin27):
    """The fit to the cortex cannot detect 0.05 mm; comparison with the given inverse can."""
    chain, points = real["B20"].chain, real["B20"].points_mm[::2]
    warp, affine = chain.to_reference.members
    for faulty, mistake in {
        Chain(
            [affine, warp]
        ): "in from-brain_to-MNIColin27 the affine, the displacement field are applied in the wrong",
        Chain([warp.inverse(), affine]): "displacement field is taken the wrong way round",
    }.items():
        assert error_mm(faulty, chain.to_reference, points) < PROMISED_MM
        quality = measure_chain(with_transform(chain, faulty, chain.from_reference), colin27, points)
        assert mistake in quality.description


@pytest.fixture(scope="module")
def ants(shared_data, colin27):
    """The two directions of an ANTs registration of an MNI template to Colin-27, and points of its cortex."""
    affine, warp, inverse_warp = (
        load_transform(shared_data / f"xfm/mni2colin_{name}")
        for name in ("0GenericAffine.mat", "1Warp.nii.gz", "1InverseWarp.nii.gz")
    )
    backward = Chain([warp, affine])
    return affine, warp, inverse_warp, backward, backward(colin27.cortex_points(750, seed=1))


@pytest.mark.long
def test_every_wrong_chain_of_ants_files_is_named(ants, colin27):
    """Affine inverted or not, Warp or InverseWarp, in two orders: of eight chains one is correct."""
    affine, warp, inverse_warp, backward, points = ants
    right = Chain([affine.inverse(), inverse_warp])
    errors = []
    for linear, field in itertools.product((affine, affine.inverse()), (warp, inverse_warp)):
        for chain in (Chain([linear, field]), Chain([field, linear])):
            error = error_mm(chain, right, points)
            quality = measure_chain(BrainChain("MNI", {}, chain, backward), colin27, points)
            assert quality.passed == (error == 0), (error, quality.description)
            errors.append(error)
            if field is warp and linear is not affine:
                assert "as when Warp and InverseWarp are exchanged" in quality.description
            if field is inverse_warp and linear is affine:
                assert "the affine is taken the wrong way round" in quality.description
            if field is warp and linear is affine:
                assert "given backwards" in quality.description
    assert sum(error > PROMISED_MM for error in errors) == 6


def test_members_are_named_by_their_files(ants, colin27):
    affine, warp, _, _, points = ants
    names = ["mni2colin_0GenericAffine.mat inverted", "mni2colin_1Warp.nii.gz"]
    chain = Chain([affine.inverse(), warp], names)

    quality = measure_chain(BrainChain("MNI", {}, chain, chain.inverse()), colin27, points)

    assert "mni2colin_1Warp.nii.gz is taken the wrong way round" in quality.description


def test_a_transform_is_not_explained_by_a_correction_that_does_not_fit_either(real, colin27):
    chain, points = real["B20"].chain, real["B20"].points_mm[::2]
    quality = measure_chain(with_transform(chain, real["B01"].chain.to_reference.inverse()), colin27, points)

    assert not quality.passed
    assert "does not put the brain's cortex onto" in quality.description


@pytest.mark.parametrize("name", NAMES)
def test_a_brain_that_is_mirrored_as_a_whole_shows_in_its_annotations(real, colin27, name):
    """If it was registered mirrored, no surface gives it away; but the areas at the mirrored places differ."""
    brain = real[name]
    right = brain.chain.to_reference
    annotated = AnnotatedPoints(MIRROR(brain.annotated.points_mm), brain.annotated.areas, brain.annotated.hemispheres)
    mirrored = Chain([MIRROR, right, MIRROR])

    as_it_is = fit_hemispheres(right, colin27, right(brain.points_mm), brain.annotated)
    turned = fit_hemispheres(mirrored, colin27, mirrored(MIRROR(brain.points_mm)), annotated)

    assert not as_it_is.mirrored
    assert as_it_is.area_agreement > 0.8
    assert as_it_is.atlas_surface_agreement > 0.99
    assert turned.mirrored
    assert turned.mirrored_area_agreement == pytest.approx(as_it_is.area_agreement)


def test_reflected_matrices_of_a_whole_brain_are_named(real, colin27):
    brain = real["B02"]
    turned = AnnotatedPoints(MIRROR(brain.annotated.points_mm), brain.annotated.areas, brain.annotated.hemispheres)

    quality = measure_chain(brain.chain, colin27, MIRROR(brain.points_mm), annotated=turned)

    assert not quality.passed
    assert "left and right of the brain are exchanged" in quality.description
    assert quality.hemispheres.mirrored


def test_hemispheres_that_were_annotated_are_compared(real, colin27):
    brain = real["B01"]
    right = brain.chain.to_reference
    hemispheres = colin27.hemisphere_at(right(brain.annotated.points_mm))
    exchanged = np.where(hemispheres == "L", "R", "L")
    mapped = right(brain.points_mm)

    agreeing = AnnotatedPoints(brain.annotated.points_mm, brain.annotated.areas, hemispheres)
    contrary = AnnotatedPoints(brain.annotated.points_mm, brain.annotated.areas, exchanged)

    assert fit_hemispheres(right, colin27, mapped, agreeing).hemisphere_agreement == 1
    assert fit_hemispheres(right, colin27, mapped, contrary).mirrored


def test_a_brain_outside_the_template_is_reported_as_such(real, colin27):
    """Such as a transform in voxels, or in metres."""
    chain, points = real["B01"].chain, real["B01"].points_mm[::2]
    far = np.eye(4)
    far[:3, 3] = [0, 400, 0]

    quality = measure_chain(with_transform(chain, Affine(far)), colin27, points)

    assert not quality.passed
    assert "lies outside the template: 100% of its cortex" in quality.description
    assert "to fix" in quality.description
