"""Features: the same whatever the batch, in the order of the rows, also for encoders without weights."""

import numpy as np
import pandas as pd
import pytest
import torch

from cytonet_pipeline.learning.backbones.encoders import load_encoder
from cytonet_pipeline.learning.data.scans import SectionScans
from cytonet_pipeline.learning.embedding import embed_patches, intensity_features
from cytonet_pipeline.learning.training.run import run

CPU = torch.device("cpu")


def embedded(folder, tiny, rows, **options):
    return embed_patches(folder, rows, SectionScans(tiny.data, tiny.sections), device=CPU, **options)


@pytest.fixture
def trained(tiny):
    folder = tiny.folder(steps=2)
    run(folder, tiny.data, CPU)
    return folder


def test_features_do_not_depend_on_the_batch_size(tiny, trained):
    rows = tiny.patches.iloc[::7]

    features = [embedded(trained, tiny, rows, batch_size=size).astype(np.float32) for size in (1, 13, 512)]

    np.testing.assert_allclose(features[0], features[1], atol=1e-4, rtol=1e-3)
    np.testing.assert_allclose(features[0], features[2], atol=1e-4, rtol=1e-3)


def test_features_are_in_the_order_of_the_rows(tiny, trained):
    rows = tiny.patches.sample(50, random_state=0)
    backwards = rows.iloc[::-1]

    assert (embedded(trained, tiny, rows) == embedded(trained, tiny, backwards)[::-1]).all()


def test_features_are_those_of_the_encoder_on_the_scan(tiny, trained):
    rows = tiny.patches.iloc[[3]]
    row = rows.iloc[0]
    with SectionScans(tiny.data, tiny.sections)(row["brain"], row["sample"]) as scan:
        patch = scan.read_patches(rows[["x_px", "y_px"]].to_numpy(), 16, 64.0)

    direct = load_encoder(trained)(torch.from_numpy(patch)[:, None].float() / 255)

    np.testing.assert_allclose(embedded(trained, tiny, rows), direct.detach().numpy(), rtol=2e-3, atol=1e-4)


def test_positions_merge_the_hemispheres(tiny):
    folder = tiny.folder("position", method="position")
    rows = pd.DataFrame({"ref_x_mm": [-30.0, 30.0], "ref_y_mm": [5.0, 5.0], "ref_z_mm": [1.0, 1.0]})

    features = embed_patches(folder, rows, scans=None)

    assert features.tolist() == [[30, 5, 1], [30, 5, 1]]


def test_intensity_is_mean_deviation_and_histogram(tiny):
    folder = tiny.folder("intensity", method="intensity")
    rows = tiny.patches.iloc[:3]
    with SectionScans(tiny.data, tiny.sections)(rows["brain"].iloc[0], rows["sample"].iloc[0]) as scan:
        patches = scan.read_patches(rows[["x_px", "y_px"]].to_numpy(), 16, 64.0)

    features = embedded(folder, tiny, rows)

    for row, patch in zip(features, patches, strict=True):
        histogram, _ = np.histogram(patch, bins=32, range=(0, 256))
        expected = [patch.mean() / 255, patch.std() / 255, *(histogram / patch.size)]
        np.testing.assert_allclose(row, expected, atol=1e-3)


def test_black_and_white_are_the_ends_of_the_histogram():
    features = intensity_features(np.stack([np.zeros((4, 4)), np.full((4, 4), 255)]).astype(np.uint8))

    assert features[0, 2] == 1
    assert features[1, -1] == 1
