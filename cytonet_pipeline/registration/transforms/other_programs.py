"""Recognising transform files of other programs by their first bytes: each is refused with its own remedy."""

import re
from pathlib import Path

from cytonet_pipeline.errors import TransformError

_HEAD_BYTES = 1 << 16
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ITK_HEADING = "#Insight Transform File"
_ITK_NAME = re.compile(r"^\s*Transform:\s*(\S+)", re.MULTILINE)
# Names of ITK 3 that later versions do not create, and what has replaced them.
_ITK_3 = {
    "BSplineDeformableTransform": "a BSplineTransform",
    "CenteredRigid2DTransform": "an Euler2DTransform",
    "Rigid2DTransform": "an Euler2DTransform",
    "Rigid3DTransform": "an AffineTransform",
}
_MATRIX = re.compile(r"\s*(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[\s,;]+){12,16}$")


def refuse_other_programs(path: Path) -> None:
    """Refuse a transform file (.mat, .tfm, .txt, .h5) that is certainly not ITK's.

    Raises
    ------
    TransformError
        The file is elastix', MATLAB's (SPM), FreeSurfer's, MINC's, or a bare matrix, as FSL and NiftyReg write it; or
        it names a transform that only ITK 3 has.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith(b"MATLAB 5.0 MAT-file") or head.startswith(b"MATLAB 7.3 MAT-file"):
        version = head[7:10].decode()
        raise TransformError(
            f"{path}: a MATLAB file (version {version}), not one of ITK; SPM writes such files.",
            to_fix="let SPM write the deformation as a field, y_….nii (docs/programs/spm.md)",
        )
    if head.startswith(_HDF5_SIGNATURE):
        return
    if path.suffix == ".mat" and b"\0" in head[:20]:
        return
    _refuse_text(path, head.decode("utf-8-sig", errors="replace"))


def _refuse_text(path: Path, text: str) -> None:
    if re.search(r"^\s*\((Transform|TransformParameters|NumberOfParameters)\s", text, re.MULTILINE):
        raise TransformError(
            f"{path}: transform parameters of elastix, not a file of ITK.",
            to_fix='register again with (ITKTransformOutputFileNameExtension "h5") and (WriteITKCompositeTransform '
            '"true") in the parameter file, or write the field with transformix -def all (docs/programs/elastix.md)',
        )  # fmt: skip
    if text.startswith("MNI Transform File"):
        raise TransformError(
            f"{path}: a transform of MINC.", to_fix="convert it to ITK's format, e.g. in 3D Slicer, or write a field"
        )
    if re.search(r"^type\s*=\s*[01]\b", text, re.MULTILINE) and "mris" not in text[:40]:
        raise TransformError(
            f"{path}: a linear transform of FreeSurfer (LTA).", to_fix="convert it: lta_convert --inlta … --outitk …"
        )
    if _MATRIX.match(text + "\n"):
        raise TransformError(
            f"{path}: a bare matrix of numbers; FSL (flirt), NiftyReg (reg_aladin) and others write it, each with "
            "another meaning.",
            to_fix="convert it with c3d_affine_tool -oitk (docs/programs/fsl.md for flirt, docs/programs/niftyreg.md "
            "for reg_aladin)",
        )  # fmt: skip
    for name in _ITK_NAME.findall(text) if text.lstrip().startswith(_ITK_HEADING) else ():
        kind = name.split("_")[0]
        if kind in _ITK_3:
            raise TransformError(
                f"{path}: holds a {kind}, a name of ITK 3 that later versions do not read.",
                to_fix=f"open and save it in 3D Slicer, which writes {_ITK_3[kind]}",
            )


def unknown_kind(path: Path, reason: str) -> str:
    """Return the name of the transform that ITK does not know, if that is why it refuses a text file; otherwise ''."""
    if "create an instance" not in reason and "not registered" not in reason:
        return ""
    names = _ITK_NAME.findall(path.read_bytes()[:_HEAD_BYTES].decode("utf-8", errors="replace"))
    return next((name for name in names if name in reason), "")
