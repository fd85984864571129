# mypy: disable-error-code="no-untyped-call"
"""Reading ITK's transform files: LPS becomes RAS, and ITK's transforms become the package's own.

Nothing outside this module knows LPS. In two dimensions nothing is flipped: a scan plane has no anatomy.
"""

import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813  (its own name for itself)

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.transforms.fields import BSplineField, DisplacementField
from cytonet_pipeline.registration.transforms.point_transform import Affine, Chain, PointTransform

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_WRITE_AGAIN = "write the transform again with the program that made it"


def read_itk_transform(path: Path) -> PointTransform:
    """Read an ITK transform file (.h5, .mat, .tfm, .txt).

    Raises
    ------
    TransformError
        The file is not an ITK transform, is damaged, or holds a kind of transform that is not supported.
    """
    if path.suffix == ".h5":
        _refuse_damaged_hdf5(path)
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise TransformError(
            f"{path}: not a transform that ITK can read.",
            to_fix="give an ITK transform; FSL's text .mat must be converted first, e.g. with c3d_affine_tool",
        ) from error
    return _convert(path, transform)


def read_displacement_field(path: Path) -> DisplacementField:
    """Read a displacement field image (.nii, .nii.gz) with ANTs' conventions: vectors in LPS mm.

    Raises
    ------
    TransformError
        The image is a scalar map, comes from FSL, or the number of its components is not that of its dimensions.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _refuse_other_images(path, reader)
        _refuse_unplaced(path)
        _refuse_holes(path)
        image = reader.Execute()
    except (
        RuntimeError,
        OSError,
        EOFError,
        zlib.error,
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
    ) as error:
        raise TransformError(f"{path}: not a NIfTI image that can be read.", to_fix=_WRITE_AGAIN) from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    try:
        return _from_field_image(image)
    except TransformError as error:
        raise TransformError(f"{path}: {error.what}", to_fix=error.to_fix) from error


def _refuse_other_images(path: Path, reader: sitk.ImageFileReader) -> None:
    name = reader.GetMetaData("intent_name") if reader.HasMetaDataKey("intent_name") else ""
    code = int(reader.GetMetaData("intent_code")) if reader.HasMetaDataKey("intent_code") else 0
    ants = "give the displacement field that ANTs writes (…1Warp.nii.gz, 5-D with vector intent)"
    if 2000 <= code < 2100:
        raise TransformError(
            f"{path}: a field of FSL (intent {code}, {name or 'unnamed'}), whose values have another meaning.",
            to_fix=f"convert it to an ITK displacement field; {ants}",
        )
    components, size = reader.GetNumberOfComponents(), reader.GetSize()
    if components == 1 and len(size) == 4 and size[3] in {2, 3}:
        raise TransformError(
            f"{path}: a 4-D image of {size}; FSL writes fields like this, with another meaning.", to_fix=ants
        )
    if components == 1:
        raise TransformError(f"{path}: a scalar map of {size}, not a displacement field.", to_fix=ants)
    dimension = 3 if len(size) == 4 and size[3] == 1 else len(size)
    if components != dimension:
        raise TransformError(f"{path}: a field in {dimension} dimensions with {components} components.", to_fix=ants)


def _refuse_unplaced(path: Path) -> None:
    # ITK and nibabel repair such headers silently: with voxels of 1 mm, or a grid that begins at 0.
    with nibabel.openers.ImageOpener(str(path)) as stream:
        header: Any = nibabel.Nifti1Header.from_fileobj(stream, check=False)
    sizes_mm = header["pixdim"][1 : 1 + min(3, int(header["dim"][0]))]
    if not (np.isfinite(sizes_mm).all() and (sizes_mm > 0).all()):
        raise TransformError(f"{path}: its header gives voxels of {sizes_mm.tolist()} mm.", to_fix=_WRITE_AGAIN)
    if header["qform_code"] == 0 and header["sform_code"] == 0:
        raise TransformError(
            f"{path}: its header does not say where the field lies (qform and sform are not set).", to_fix=_WRITE_AGAIN
        )


def _refuse_holes(path: Path) -> None:
    # The NIfTI library under ITK silently reads NaN as 0, which would be a displacement like any other.
    image: Any = nibabel.load(path)
    if not np.isfinite(np.asanyarray(image.dataobj)).all():
        raise TransformError(f"{path}: the displacement field holds values that are not numbers.", to_fix=_WRITE_AGAIN)


def _refuse_damaged_hdf5(path: Path) -> None:
    # The HDF5 library floods the terminal before it gives up; the superblock shows whether a file is truncated.
    with path.open("rb") as stream:
        head = stream.read(64)
    if not head.startswith(_HDF5_SIGNATURE):
        raise TransformError(f"{path}: not an HDF5 file.", to_fix=_WRITE_AGAIN)
    # Offset of the end-of-file address in superblock versions 0, 1 and 2, 3 (HDF5 file format specification, II.A).
    offset = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8])
    if offset and int.from_bytes(head[offset : offset + 8], "little") > path.stat().st_size:
        raise TransformError(f"{path}: the file is cut off.", to_fix="copy it again, or " + _WRITE_AGAIN)


def _convert(path: Path, transform: sitk.Transform) -> PointTransform:
    try:
        return from_itk(transform)
    except TransformError as error:
        raise TransformError(f"{path}: {error.what}", to_fix=error.to_fix or _WRITE_AGAIN) from error


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
    components = np.ascontiguousarray(values.transpose(range(dimension, -1, -1)))
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
