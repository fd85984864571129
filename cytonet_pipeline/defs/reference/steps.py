"""What checking the reference space writes: `status.json`, a picture, and what it was made from. No Dagster here."""

from pathlib import Path

from cytonet_pipeline.defs.currency import reference_space
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Verdict, atomic_folder, write_stamp


def check_reference(settings: Settings, *, recompute: bool = False) -> Path:
    """Check the reference space and record its digest; the folder of the result.

    Raises
    ------
    ReferenceSpaceError
        Something is missing or contradicts itself.
    """
    from cytonet_pipeline.registration import ReferenceSpace
    from cytonet_pipeline.reporting.reference_figure import reference_figure

    result = reference_space(settings)
    if result.current and not recompute:
        return result.folder
    reference = ReferenceSpace.load(settings.reference)
    labels = reference.atlas_labels
    figures = {
        "areas": int(labels.loc[labels["kind"] == "area", "area"].nunique()),
        "synthetic": bool(reference.synthetic),
        "description": reference.description,
    }
    with atomic_folder(result.folder) as folder:
        reference_figure(reference, folder / "reference.png")
        Verdict("ok", digest=reference.digest, numbers=figures).write(folder)
        write_stamp(folder, result.inputs)
    return result.folder
