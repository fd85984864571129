# mypy: disable-error-code="no-untyped-call"
"""Reading ITK's transform files: LPS becomes RAS, and ITK's transforms become the package's own.

Nothing outside this module and `nifti_field` knows LPS. In two dimensions nothing is flipped: a scan plane has no
anatomy.
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813  (its own name for itself)

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.transforms.fields import BSplineField, DisplacementField
from cytonet_pipeline.registration.transforms.itk_guard import WRITE_AGAIN, RejectedByItkError, ask_itk
from cytonet_pipeline.registration.transforms.other_programs import refuse_other_programs, unknown_kind
from cytonet_pipeline.registration.transforms.point_transform import Affine, Chain, PointTransform

# Composites of one composite, and so on, end before this.
_DEEPEST = 8
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_itk_transform(path: Path) -> PointTransform:
    """Read an ITK transform file (.h5, .mat, .tfm, .txt).

    Raises
    ------
    TransformError
        The file is not an ITK transform, is damaged, or holds a kind of transform that is not supported.
    """
    refuse_other_programs(path)
    if path.suffix == ".h5":
        _refuse_damaged_hdf5(path)
    try:
        ask_itk("transform", path)
        transform = sitk.ReadTransform(str(path))
    except (RejectedByItkError, RuntimeError) as error:
        kind = unknown_kind(path, str(error))
        if kind:
            what = f"{path}: holds a {kind}, which ITK does not know."
            raise TransformError(what, to_fix="write it as an affine or a displacement field") from error
        raise TransformError(f"{path}: not a transform that ITK can read.", to_fix="give an ITK transform") from error
    return _convert(path, transform)


def _refuse_damaged_hdf5(path: Path) -> None:
    # The HDF5 library floods the terminal before it gives up; the superblock shows whether a file is truncated.
    with path.open("rb") as stream:
        head = stream.read(64)
    if not head.startswith(_HDF5_SIGNATURE):
        raise TransformError(f"{path}: not an HDF5 file.", to_fix=WRITE_AGAIN)
    # Offset of the end-of-file address in superblock versions 0, 1 and 2, 3 (HDF5 file format specification, II.A).
    offset = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8])
    if offset and int.from_bytes(head[offset : offset + 8], "little") > path.stat().st_size:
        raise TransformError(f"{path}: the file is cut off.", to_fix="copy it again, or " + WRITE_AGAIN)


def _convert(path: Path, transform: sitk.Transform) -> PointTransform:
    try:
        return from_itk(transform)
    except TransformError as error:
        raise TransformError(f"{path}: {error.what}", to_fix=error.to_fix or WRITE_AGAIN) from error


def from_itk(transform: sitk.Transform) -> PointTransform:
    """Return the package's own transform, in RAS, for an ITK transform.

    Raises
    ------
    TransformError
        The transform is singular, or of a kind that is not supported.
    """
    kind = transform.GetTransformEnum()
    if kind == sitk.sitkComposite:
        composite = sitk.CompositeTransform(transform)
        if _is_generic(composite):
            return _from_generic(composite)
        count = composite.GetNumberOfTransforms()
        # ITK applies the last transform of the list first.
        return Chain([from_itk(composite.GetNthTransform(i)) for i in reversed(range(count))])
    if kind == sitk.sitkDisplacementField:
        return _from_field_image(sitk.DisplacementFieldTransform(transform).GetDisplacementField())
    if kind == sitk.sitkBSplineTransform:
        return _from_bspline(sitk.BSplineTransform(transform))
    if transform.IsLinear():
        return _from_linear(transform)
    raise TransformError(f"ITK's {transform.GetName()} is not supported.", to_fix="convert it to a displacement field")


def _is_generic(composite: sitk.CompositeTransform) -> bool:
    """Tell whether this only stands for a class that SimpleITK does not know: a composite that contains itself."""
    inner = composite
    for _ in range(_DEEPEST):
        if inner.GetNumberOfTransforms() != 1:
            return False
        member = inner.GetNthTransform(0)
        if member.GetTransformEnum() != sitk.sitkComposite:
            return False
        inner = sitk.CompositeTransform(member)
    return True


def _from_generic(transform: sitk.Transform) -> PointTransform:
    # MatrixOffsetTransformBase, as c3d_affine_tool writes it, is the common one.
    if transform.IsLinear():
        return _from_linear(transform)
    raise TransformError(
        "a kind of ITK transform that is not supported (neither linear, B-spline nor displacement field).",
        to_fix="convert it to a displacement field",
    )


def _from_linear(transform: sitk.Transform) -> Affine:
    dimension = transform.GetDimension()
    shift = np.array(transform.TransformPoint([0.0] * dimension))
    matrix = np.eye(dimension + 1)
    matrix[:-1, -1] = shift
    for axis in range(dimension):
        # With a distant point the matrix keeps its relative precision when the shift is subtracted.
        point = np.zeros(dimension)
        point[axis] = 1024.0
        matrix[:-1, axis] = (np.array(transform.TransformPoint(point.tolist())) - shift) / point[axis]
    flip = _flip(dimension)
    # What is not finite is refused by the affine.
    with np.errstate(invalid="ignore"):
        return Affine(flip @ matrix @ flip)


def _from_field_image(image: sitk.Image) -> DisplacementField:
    return DisplacementField(_components(image), _grid_to_mm(image))


def _from_bspline(transform: sitk.BSplineTransform) -> BSplineField:
    if transform.GetOrder() != 3:
        raise TransformError(f"a B-spline of order {transform.GetOrder()}: only order 3 is supported.")
    images = transform.GetCoefficientImages()
    return BSplineField(_components(sitk.Compose(images)), _grid_to_mm(images[0]))


def _components(image: sitk.Image) -> np.ndarray:
    """Return the vectors of an ITK image in RAS, component first, (d, n_1, …, n_d)."""
    values = sitk.GetArrayViewFromImage(image)
    dimension = image.GetDimension()
    # ITK's arrays are indexed z, y, x, component.
    components = np.array(values.transpose(range(dimension, -1, -1)), order="C")
    if dimension == 3:
        np.negative(components[:2], out=components[:2])
    return components


def _grid_to_mm(image: sitk.Image) -> np.ndarray:
    dimension = image.GetDimension()
    grid = np.eye(dimension + 1)
    grid[:-1, :-1] = np.array(image.GetDirection()).reshape(dimension, dimension) * np.array(image.GetSpacing())
    grid[:-1, -1] = image.GetOrigin()
    return _flip(dimension) @ grid


def _flip(dimension: int) -> np.ndarray:
    """Return the homogeneous matrix from LPS to RAS and back; the identity in the plane."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) if dimension == 3 else np.eye(dimension + 1)
