"""Registration: point transforms between scan, brain and reference, and what the reference knows about a point.

Points are mm, RAS, float64. No image is resampled here and no transform is estimated: transforms come from files.
"""

from cytonet_pipeline.registration.chain import BrainChain, resolve_chain
from cytonet_pipeline.registration.files import load_transform
from cytonet_pipeline.registration.placement import SectionPlacement
from cytonet_pipeline.registration.plane import load_plane_transform
from cytonet_pipeline.registration.quality import ChainQuality, folded_share, jacobian_determinant, measure_chain
from cytonet_pipeline.registration.reference import ReferenceSpace
from cytonet_pipeline.registration.transforms import (
    Affine,
    BSplineField,
    Chain,
    DisplacementField,
    PointTransform,
)

__all__ = [
    "Affine",
    "BSplineField",
    "BrainChain",
    "Chain",
    "ChainQuality",
    "DisplacementField",
    "PointTransform",
    "ReferenceSpace",
    "SectionPlacement",
    "folded_share",
    "jacobian_determinant",
    "load_plane_transform",
    "load_transform",
    "measure_chain",
    "resolve_chain",
]
