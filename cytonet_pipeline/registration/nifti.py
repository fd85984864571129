"""What a NIfTI header says about the place and the unit of an image: one rule for fields and volumes.

The rule is nibabel's: the sform counts where its code is set, otherwise the qform. Programs differ in this, so that an
image whose two matrices differ is flagged.
"""

import itertools
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

# What nibabel raises for files that are damaged, or no NIfTI images at all.
UNREADABLE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    zlib.error,
    nibabel.filebasedimages.ImageFileError,
    nibabel.spatialimages.HeaderDataError,
    nibabel.wrapstruct.WrapStructError,
)
# Further apart than this in voxels, sform and qform place an image differently.
_DOUBTFUL_VOXELS = 0.1
_OTHER_UNITS = {1: "metres", 3: "micrometres"}


def read_header(path: Path) -> Any:
    """Read the header of a NIfTI-1 or NIfTI-2 file as it stands, without nibabel's repairs.

    Raises
    ------
    one of `UNREADABLE`
        The file is damaged or no NIfTI image.
    """
    # nibabel's classes and openers are not typed.
    library: Any = nibabel
    kind = type(library.load(path))
    if not issubclass(kind, library.Nifti1Pair):
        raise ValueError(f"{kind.__name__} is not NIfTI")
    with library.openers.ImageOpener(str(path)) as stream:
        return kind.header_class.from_fileobj(stream, check=False)


def foreign_unit(header: Any) -> str:
    """Return the unit of length of an image's grid where the header says that it is not mm; otherwise ''."""
    return _OTHER_UNITS.get(int(header["xyzt_units"]) & 7, "")


def disagreement_of(header: Any) -> str:
    """Describe how far sform and qform of a header place the image apart; '' below a tenth of a voxel."""
    voxels = apart_voxels(header)
    if not voxels > _DOUBTFUL_VOXELS:
        return ""
    mm = voxels * float(np.min(np.linalg.norm(header.get_sform()[:3, :3], axis=0)))
    return (
        f"its sform and qform place it up to {voxels:.1f} voxels ({mm:.2f} mm) apart; the sform counts, as in nibabel, "
        "SPM and NiftyReg, but not in each program. If the qform is right, copy it into the sform"
    )


def apart_voxels(header: Any) -> float:
    """Return the largest distance between the corners of an image by its sform and by its qform, in voxels.

    0 where only one of them is set.
    """
    if int(header["sform_code"]) == 0 or int(header["qform_code"]) == 0:
        return 0.0
    return between_voxels(header.get_sform(), header.get_qform(), header.get_data_shape()[:3])


def between_voxels(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the largest distance between the corners of a grid by two affines, in voxels of the first; inf for NaN."""
    ends = [(0.0, max(0.0, n - 1.0)) for n in (*shape, 1, 1)[: len(affine) - 1]]
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*ends)])
    apart_mm = np.linalg.norm(corners @ (affine - other).T, axis=1).max()
    voxel_mm = np.linalg.norm(affine[:-1, :-1], axis=0).min()
    return float(apart_mm / voxel_mm) if np.isfinite(apart_mm) and voxel_mm > 0 else float("inf")
