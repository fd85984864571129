"""Checks of the reference space."""

import dagster as dg

from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages import REFERENCE_SPACE
from cytonet_pipeline.store import Verdict


@dg.asset_check(asset="reference_space", description="Both hemispheres have the same areas, and there are some.")
def reference_has_areas(settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """An atlas without areas gives an empty index much later; say it here."""
    verdict = Verdict.read(REFERENCE_SPACE.folder(settings))
    areas = int(verdict.numbers.get("areas", 0))
    return dg.AssetCheckResult(
        passed=verdict.ok and areas > 1,
        metadata={"areas": areas},
        description=f"{areas} areas in {settings.reference}",
    )
