"""The plan of a section reads its mask as the survey did."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from cytonet_pipeline.dataset import Section
from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.patches.section_plan import PlannedSection
from cytonet_pipeline_tests.dataset.tiny import ring


@pytest.fixture
def planned(tmp_path):
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, ring() + 1, metadata=None)
    source = Section("B01", "0010", 10, None, mask=path, mask_value=2)
    nothing = dict.fromkeys(("mask_digest", "annotation_digest"))
    return PlannedSection(
        source, 10, 100.0, 16.0, 12.0, True, False, **nothing,
        warped=False, position_mm=0.0, reach_mm=0.0, represents_mm=1.0,
    )  # fmt: skip


def test_only_the_number_that_is_cortex_is_sampled(planned):
    np.testing.assert_array_equal(planned.own_mask().inside, ring() > 0)


def test_a_mask_that_does_not_show_the_cortex_is_refused_here_too(planned):
    """A store of an earlier version may have taken it in, with all of the field for cortex."""
    with pytest.raises(ScanError, match="no pixel is 0"):
        replace(planned, source=replace(planned.source, mask_value=None)).own_mask()
