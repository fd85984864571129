"""Reading fields of vectors from NIfTI images, whichever program wrote them.

The header decides what the vectors mean. A field whose meaning is not certain is refused by the name of its program,
with how to convert it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from cytonet_pipeline.errors import TransformError
from cytonet_pipeline.registration.nifti import (
    UNREADABLE,
    between_voxels,
    disagreement_of,
    foreign_unit,
    read_header,
)
from cytonet_pipeline.registration.transforms.fields import DisplacementField, Field
from cytonet_pipeline.registration.transforms.itk_guard import WRITE_AGAIN, RejectedByItkError, ask_itk
from cytonet_pipeline.registration.transforms.positions import PositionField, gradient_of

_VECTOR, _DISPLACEMENT = 1007, 1006
_ANTS = "give the displacement field that ANTs writes (…1Warp.nii.gz, 5-D with vector intent)"
_TO_DEFORMATION = "write a deformation field with it: reg_transform -ref REFERENCE -def THIS.nii.gz FIELD.nii.gz"
# NiftyReg's NREG_TRANS_TYPE, in intent_p1.
_NIFTYREG_KINDS = {
    0: "positions",
    1: "displacements",
    2: "a cubic spline grid",
    3: "a velocity field of positions",
    4: "a velocity field of displacements",
    5: "a spline grid of velocities",
    6: "a linear spline grid",
}
# ITK and nibabel compute the same grid from a header in different precision.
SAME_VOXELS = 1e-3
# Vectors that grow with their place at about this rate in each direction are places.
_RATE_OF_POSITIONS = (0.75, 1.3)


@dataclass(frozen=True)
class Vectors:
    """What the vectors of a field mean.

    Attributes
    ----------
    program : str
        Program that wrote it, as far as the header tells.
    positions : bool
        Whether they are positions in the target space; otherwise displacements.
    lps : bool
        Whether they are in LPS; otherwise in RAS.
    """

    program: str
    positions: bool
    lps: bool


def read_vector_field(path: Path) -> Field:
    """Read a NIfTI image of vectors (.nii, .nii.gz): of ANTs and ITK, NiftyReg or SPM.

    Raises
    ------
    TransformError
        The image is damaged, is not a field, or its vectors have a meaning that is not known for certain.
    """
    try:
        header = read_header(path)
        vectors = meaning_of(path, header)
        dimension = _dimension_of(path, header)
        if dimension == 2 and vectors.program != "ITK":
            raise TransformError(
                f"{path}: a field of {vectors.program} in the plane, whose axes are not certain.",
                to_fix="write the warp of a section with ITK, or as a chain of its transforms",
            )
        _refuse_unplaced(path, header)
        # Without a memory map: a file that is overwritten meanwhile would end the process (SIGBUS).
        image: Any = nibabel.load(path, mmap=False)
        stored = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise TransformError(f"{path}: not a NIfTI image that can be read ({what}).", to_fix=WRITE_AGAIN) from error
    if stored.dtype.kind not in "iuf":
        raise TransformError(f"{path}: its values are not plain numbers ({stored.dtype}).", to_fix=WRITE_AGAIN)
    if not np.isfinite(stored).all():
        share = 1 - np.isfinite(stored).mean()
        raise TransformError(
            f"{path}: the field holds values that are not numbers ({share:.1%} of them).",
            to_fix="SPM's iy_ fields do outside the head: give the y_ field of the other direction, its inverse is "
            "computed" if vectors.positions else WRITE_AGAIN,
        )  # fmt: skip
    return _field(path, header, vectors, stored, dimension)


def meaning_of(path: Path, header: Any) -> Vectors:
    """Return what the vectors of a field mean by its header.

    Raises
    ------
    TransformError
        The header does not tell for certain, or names a program whose fields cannot be used as they are.
    """
    code, name = int(header["intent_code"]), _text(header["intent_name"])
    described = f"intent {code}{f' {name}' if name else ''}"
    if 2000 <= code < 2100:
        raise TransformError(
            f"{path}: a field of FSL ({described}), whose values have another meaning.",
            to_fix=f"convert it to an ITK displacement field (docs/programs/fsl.md); {_ANTS}",
        )
    if code not in {_VECTOR, _DISPLACEMENT}:
        _refuse_other_intents(path, header, described)
    if name.upper().startswith("NREG"):
        return _niftyreg(path, header, name)
    if name == "Mapping":
        return Vectors("SPM", positions=True, lps=False)
    if name and code == _VECTOR:
        if _text(header["descrip"]).startswith("Connectome Workbench"):
            raise TransformError(
                f"{path}: a field of Connectome Workbench, whose header is the same for -to-itk and for -to-world.",
                to_fix="write it with -to-itk and clear its intent_name (docs/programs/fsl.md has the command)",
            )
        raise TransformError(
            f"{path}: {described}: what these vectors mean is not known.",
            to_fix=f"if they are displacements in LPS mm, clear the intent_name; otherwise {_ANTS}",
        )
    return Vectors("ITK", positions=False, lps=code == _VECTOR)


def _niftyreg(path: Path, header: Any, name: str) -> Vectors:
    kind = float(header["intent_p1"])
    if name == "NREG_TRANS" and kind in {0.0, 1.0}:
        return Vectors("NiftyReg", positions=kind == 0.0, lps=False)
    what = _NIFTYREG_KINDS.get(int(kind), f"of kind {kind:g}") if name == "NREG_TRANS" and np.isfinite(kind) else name
    raise TransformError(
        f"{path}: a field of NiftyReg that has to be evaluated first ({what}).",
        to_fix=f"{_TO_DEFORMATION} (docs/programs/niftyreg.md)",
    )


def _refuse_other_intents(path: Path, header: Any, described: str) -> None:
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) == 4 and shape[3] in {2, 3}:
        raise TransformError(
            f"{path}: a 4-D image of {shape}; FSL writes fields like this, with another meaning.",
            to_fix=f"docs/programs/fsl.md has the conversion; {_ANTS}",
        )
    if len(shape) == 5 and shape[4] in {2, 3}:
        raise TransformError(
            f"{path}: a 5-D image of {shape} that does not say that it holds displacements ({described}).",
            to_fix=f"if they are, in LPS mm, set its intent_code to {_VECTOR}; otherwise {_ANTS}",
        )
    raise TransformError(f"{path}: a scalar map of {shape}, not a displacement field.", to_fix=_ANTS)


def _dimension_of(path: Path, header: Any) -> int:
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) == 4 and shape[3] in {2, 3}:
        raise TransformError(
            f"{path}: a 4-D image of {shape}; FSL writes fields like this, with another meaning.",
            to_fix=f"docs/programs/fsl.md has the conversion; {_ANTS}",
        )
    if len(shape) < 5 or shape[4] == 1:
        raise TransformError(f"{path}: a scalar map of {shape}, not a displacement field.", to_fix=_ANTS)
    dimension = max((axis + 1 for axis in range(4) if shape[axis] > 1), default=0)
    if shape[4] != dimension or (len(shape) > 5 and max(shape[5:]) > 1):
        raise TransformError(f"{path}: a field in {dimension} dimensions with {shape[4]} components.", to_fix=_ANTS)
    return dimension


def _refuse_unplaced(path: Path, header: Any) -> None:
    # ITK and nibabel repair such headers silently: with voxels of 1 mm, or a grid that begins at 0.
    sizes_mm = header["pixdim"][1 : 1 + min(3, int(header["dim"][0]))]
    if not (np.isfinite(sizes_mm).all() and (sizes_mm > 0).all()):
        raise TransformError(f"{path}: its header gives voxels of {sizes_mm.tolist()} mm.", to_fix=WRITE_AGAIN)
    if header["qform_code"] == 0 and header["sform_code"] == 0:
        raise TransformError(
            f"{path}: its header does not say where the field lies (qform and sform are not set).", to_fix=WRITE_AGAIN
        )
    if unit := foreign_unit(header):
        raise TransformError(
            f"{path}: its grid is in {unit}, and whether its vectors are too is not known.",
            to_fix="write grid and vectors in mm, with xyzt_units 2",
        )
    affine = header.get_best_affine()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise TransformError(f"{path}: its {_form(header)} is singular.", to_fix="repair the header")


def _field(path: Path, header: Any, vectors: Vectors, stored: np.ndarray, dimension: int) -> Field:
    values = np.moveaxis(stored.reshape(*stored.shape[:dimension], dimension), -1, 0)
    grid = _grid_to_mm(path, header, vectors, dimension)
    if dimension == 3 and vectors.lps:
        values = np.concatenate([-values[:2], values[2:]])
    elif dimension == 2 and not vectors.lps:
        # A scan plane keeps ITK's axes; what is given in RAS is turned into them.
        values = -values
    try:
        if vectors.positions:
            field: Field = PositionField(values, grid)
        else:
            _refuse_positions(values, grid)
            field = DisplacementField(values, grid)
    except TransformError as error:
        raise TransformError(f"{path}: {error.what}", to_fix=error.to_fix) from error
    note = disagreement_of(header)
    field.notes = (f"{path.name}: {note}.",) if note else ()
    return field


def follows_itk(path: Path, header: Any) -> bool:
    """Tell whether ITK places the grid of a field as nibabel does, but for rounding."""
    dimension = 2 if header.get_data_shape()[-1] == 2 else 3
    return _itks_grid(path, header, _nibabels_grid(header, dimension)) is not None


def _grid_to_mm(path: Path, header: Any, vectors: Vectors, dimension: int) -> np.ndarray:
    """Return the affine from grid indices to mm: RAS in space, ITK's axes in the plane."""
    affine = _nibabels_grid(header, dimension)
    if vectors.program != "ITK":
        return affine
    # Where ITK follows the same rule its numbers are taken, to the last bit: stored results name fields by them.
    itks = _itks_grid(path, header, affine)
    return affine if itks is None else itks


def _nibabels_grid(header: Any, dimension: int) -> np.ndarray:
    affine: np.ndarray = header.get_best_affine()
    if dimension == 3:
        return affine
    axes = [0, 1, 3]
    return (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)[np.ix_(axes, axes)]


def _itks_grid(path: Path, header: Any, affine: np.ndarray) -> np.ndarray | None:
    grid = _grid_of_itk(path, len(affine) - 1)
    shape = header.get_data_shape()[: len(affine) - 1]
    return grid if grid is not None and between_voxels(affine, grid, shape) <= SAME_VOXELS else None


def _grid_of_itk(path: Path, dimension: int) -> np.ndarray | None:
    try:
        place = ask_itk("image", path)
    except (RejectedByItkError, TransformError):
        return None
    if len(place["origin"]) < dimension:
        return None
    n = len(place["origin"])
    grid = np.eye(dimension + 1)
    direction = np.array(place["direction"]).reshape(n, n)[:dimension, :dimension]
    grid[:-1, :-1] = direction * np.array(place["spacing"][:dimension])
    grid[:-1, -1] = place["origin"][:dimension]
    # Of an image in the plane ITK gives no negative zeros once it is read.
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid if dimension == 3 else grid + 0.0


def _refuse_positions(values_mm: np.ndarray, grid_to_mm: np.ndarray) -> None:
    rates = np.abs(np.diag(gradient_of(values_mm, grid_to_mm)))
    low, high = _RATE_OF_POSITIONS
    if ((rates > low) & (rates < high)).all():
        raise TransformError(
            "its vectors grow with their place: they are positions, and its header does not say so.",
            to_fix="subtract the place of each voxel (in LPS mm, as the vectors), or write displacements",
        )


def _form(header: Any) -> str:
    return "sform" if int(header["sform_code"]) > 0 else "qform"


def _text(value: Any) -> str:
    return bytes(value.item()).split(b"\0")[0].decode("latin-1").strip()
