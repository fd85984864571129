"""HDF5 files without time of writing stay what they are."""

import time

import numpy as np
import pytest
import SimpleITK

from cytonet_pipeline.phantom.itk_files import lookup3, without_times


@pytest.mark.parametrize(("text", "published"), [(b"", 0xDEADBEEF), (b"Four score and seven years ago", 0x17770551)])
def test_the_checksum_is_the_published_one(text, published):
    """Values from the self-test of burtleburtle.net/bob/c/lookup3.c."""
    assert lookup3(text) == published


def test_a_transform_written_a_second_later_has_the_same_bytes(tmp_path):
    transform = SimpleITK.TranslationTransform(3, (1.0, 2.0, 3.0))
    paths = tmp_path / "early.h5", tmp_path / "late.h5"
    for path in paths:
        SimpleITK.WriteTransform(transform, str(path))
        time.sleep(1.1)
    assert paths[0].read_bytes() != paths[1].read_bytes(), "ITK writes no times any more: this module can go"

    for path in paths:
        without_times(path)

    assert paths[0].read_bytes() == paths[1].read_bytes()
    # HDF5 checks every header's checksum as it reads.
    np.testing.assert_allclose(SimpleITK.ReadTransform(str(paths[0])).TransformPoint((0, 0, 0)), (1, 2, 3))


def test_letters_of_a_header_within_the_data_are_left_alone(tmp_path):
    path = tmp_path / "data"
    content = b"OHDR" + bytes([2, 0x20]) + bytes(range(200))
    path.write_bytes(content)

    without_times(path)

    assert path.read_bytes() == content
