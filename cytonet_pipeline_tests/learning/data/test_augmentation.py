"""Augmentation: one sample's draw is its own, and each step does what its name says."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from cytonet_pipeline.learning.data.augmentation import Augmentation, central_crop, margin_px
from cytonet_pipeline.settings import AugmentationBlock

OFF = AugmentationBlock(
    rotation=False, flip=False, crop_jitter_px=0, brightness=0, contrast=0, blur_px=0, noise=0, stain=0
)
WORK_PX = 32


def augment(patches, keys, **block):
    resolved = OFF.model_copy(update=block)
    return Augmentation(resolved, WORK_PX, 0, torch.device("cpu"))(patches, np.asarray(keys, dtype=np.uint64))


def patches_of(n, size=64, seed=0):
    noise = np.random.default_rng(seed).normal(size=(n, size, size))
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3))
    return torch.from_numpy((127 + 60 * smooth / smooth.std()).clip(10, 245).astype(np.uint8))


def test_everything_off_is_the_central_crop():
    patches = patches_of(4)

    torch.testing.assert_close(augment(patches, range(4)), central_crop(patches, WORK_PX), atol=1e-5, rtol=0)


def test_a_sample_looks_the_same_in_any_batch():
    """Ranks split a batch, and a resumed run starts in its middle."""
    patches, keys = patches_of(6), [11, 22, 33, 44, 55, 66]
    block = AugmentationBlock().model_dump()

    together = augment(patches, keys, **block)
    alone = augment(patches[3:4], keys[3:4], **block)

    torch.testing.assert_close(together[3:4], alone, atol=1e-6, rtol=0)


def test_equal_patches_with_different_keys_look_different():
    patches = patches_of(1).expand(3, -1, -1)

    views = augment(patches, [1, 2, 3], **AugmentationBlock().model_dump())

    assert (views[0] - views[1]).abs().mean() > 0.02
    assert (views[1] - views[2]).abs().mean() > 0.02


def test_rotations_are_those_of_scipy():
    """Without flip and shift each view is a rotation of the patch, by an angle that one view tells."""
    patches = patches_of(5)

    views = augment(patches, range(5), rotation=True)

    for patch, view in zip(patches.numpy() / 255, views[:, 0].numpy(), strict=True):
        errors = []
        for degrees in range(0, 360, 2):
            turned = ndimage.rotate(patch, degrees, reshape=False, order=1, mode="nearest")[16:48, 16:48]
            errors.append(np.abs(turned - view).mean())
        assert min(errors) < 0.01 < np.median(errors)


def test_the_corners_of_a_rotated_crop_are_real_tissue():
    """Black corners would tell the network how far a patch was turned."""
    size = margin_px(WORK_PX, AugmentationBlock())
    # Whatever lies outside the patch would be the value of its border.
    patches = torch.full((200, size, size), 200, dtype=torch.uint8)
    patches[:, 0], patches[:, -1], patches[:, :, 0], patches[:, :, -1] = 0, 0, 0, 0

    views = augment(patches, range(200), rotation=True, flip=True, crop_jitter_px=2.0)

    # Bilinear interpolation reaches half a pixel into the border at the very corner, no farther.
    assert views.min() > 0.25
    assert (views < 0.75).float().mean() < 1e-3


def test_the_margin_keeps_the_centre_where_it_was():
    for work_px in (15, 16, 31, 32, 256):
        assert (margin_px(work_px, AugmentationBlock()) - work_px) % 2 == 0
    assert margin_px(WORK_PX, OFF) == WORK_PX


def test_half_of_the_samples_are_flipped():
    patches = patches_of(1).expand(400, -1, -1)
    plain = central_crop(patches[:1], WORK_PX)

    views = augment(patches, range(400), flip=True)

    flipped = (views - plain.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert ((views - plain).abs().amax((1, 2, 3)) < 1e-4).logical_xor(flipped).all()
    assert 0.4 < flipped.float().mean() < 0.6


def test_blur_is_gaussian():
    patches = torch.zeros(1, 64, 64, dtype=torch.uint8)
    patches[0, 32, 32] = 255

    views = [augment(patches, [key], blur_px=1.5)[0, 0].double().numpy() for key in range(20)]

    rows, columns = np.mgrid[0:32, 0:32] - 16.0
    sigmas = np.array([np.sqrt((view * rows**2).sum() / view.sum()) for view in views])
    assert 0 < sigmas.min() < 0.5 < 1.0 < sigmas.max() < 1.5
    sharpest = views[int(sigmas.argmax())]
    expected = ndimage.gaussian_filter(np.where((rows == 0) & (columns == 0), 1.0, 0.0), sigmas.max())
    np.testing.assert_allclose(sharpest, expected, atol=0.01)


@pytest.mark.parametrize(
    ("option", "figure", "low", "high"),
    [
        ({"brightness": 0.2}, lambda v, p: (v - p).mean((1, 2, 3)), -0.2, 0.2),
        ({"contrast": 0.3}, lambda v, p: v.std((1, 2, 3)) / p.std((1, 2, 3)), 0.7, 1.3),
        ({"stain": 0.3}, lambda v, p: (v.log() / p.log()).mean((1, 2, 3)).log2(), -0.3, 0.3),
    ],
)
def test_grey_values_change_within_the_stated_range_and_fill_it(option, figure, low, high):
    patches = (patches_of(1) // 2 + 64).expand(300, -1, -1)

    values = figure(augment(patches, range(300), **option), central_crop(patches, WORK_PX))

    spread = high - low
    assert low - 0.01 <= values.min() < low + 0.1 * spread
    assert high - 0.1 * spread < values.max() <= high + 0.01


def test_noise_is_white_and_no_stronger_than_stated():
    patches = torch.full((300, 32, 32), 128, dtype=torch.uint8)

    noise = augment(patches, range(300), noise=0.05)[:, 0] - 128 / 255

    sigma = noise.std((1, 2))
    assert sigma.max() < 0.055
    assert sigma.min() < 0.005
    strong = noise[sigma > 0.03]
    neighbours = (strong[:, :, 1:] * strong[:, :, :-1]).mean() / (strong**2).mean()
    assert abs(float(neighbours)) < 0.02
