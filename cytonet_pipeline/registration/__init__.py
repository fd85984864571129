"""Registration: point transforms between scan, brain and reference, and what the reference knows about a point.

Points are mm, RAS, float64. No image is resampled here and no transform is estimated: transforms come from files.
"""

from cytonet_pipeline.registration.chain.brain_chain import BrainChain, resolve_chain
from cytonet_pipeline.registration.chain.placement import SectionPlacement
from cytonet_pipeline.registration.quality.chain_quality import ChainQuality
from cytonet_pipeline.registration.quality.measure import measure_chain
from cytonet_pipeline.registration.reference.space import ReferenceSpace
from cytonet_pipeline.registration.transforms.fields import BSplineField, DisplacementField
from cytonet_pipeline.registration.transforms.files import load_transform
from cytonet_pipeline.registration.transforms.jacobian import folded_share, jacobian_determinant
from cytonet_pipeline.registration.transforms.plane import load_plane_transform
from cytonet_pipeline.registration.transforms.point_transform import Affine, Chain, PointTransform

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
