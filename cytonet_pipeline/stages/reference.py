"""The reference space: Colin-27 with its atlas and surfaces, checked and digested."""

from pathlib import Path
from typing import Any

from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.stage import Inputs, StampedStage, Summary, store_of
from cytonet_pipeline.store import Verdict, digest_of


class ReferenceSpaceStage(StampedStage[None]):
    """The space in which all distances are measured."""

    name = "reference_space"
    group = "reference"
    partition_set = None
    code_version = "1"

    def folder(self, settings: Settings, partition: None = None) -> Path:
        """See `Stage.folder`."""
        return store_of(settings).reference_space()

    def inputs(self, settings: Settings, partition: None = None) -> dict[str, Any]:
        """Sizes and times of change of the template's files: they are large, and read only when these differ."""
        files = sorted(p for p in settings.reference.glob("t*") if p.is_file())
        stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
        return {"files": digest_of(stats), "code": self.code_version}

    def compute(self, settings: Settings, partition: None, folder: Path, inputs: Inputs, *, recompute: bool) -> None:
        """Check the reference space; write its verdict and a picture.

        Raises
        ------
        ReferenceSpaceError
            Something is missing or contradicts itself.
        """
        from cytonet_pipeline.registration import ReferenceSpace
        from cytonet_pipeline.reporting.reference_figure import reference_figure

        reference = ReferenceSpace.load(settings.reference)
        labels = reference.atlas_labels
        numbers = {
            "areas": int(labels.loc[labels["kind"] == "area", "area"].nunique()),
            "synthetic": bool(reference.synthetic),
            "description": reference.description,
        }
        reference_figure(reference, folder / "reference.png")
        Verdict("ok", reference.notes, digest=reference.digest, numbers=numbers).write(folder)

    def summary(self, settings: Settings, partition: None = None) -> Summary:
        """See `Stage.summary`."""
        folder = self.folder(settings)
        verdict = Verdict.read(folder)
        pictures = {"reference": folder / "reference.png"}
        return Summary(folder, verdict.digest, reasons=verdict.reasons, numbers=verdict.numbers, pictures=pictures)


REFERENCE_SPACE = ReferenceSpaceStage()
