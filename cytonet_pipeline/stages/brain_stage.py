"""What the stages that bring one brain in have in common: a verdict beside the result, and when they must not run."""

import logging
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cytonet_pipeline.errors import DataFault
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.stage import Inputs, StampedStage, Summary, store_of
from cytonet_pipeline.stages.waiting import fault_of, loss_of, loss_of_named
from cytonet_pipeline.store import Verdict, beside, digest_left_in, faults_in, read_stamp
from cytonet_pipeline.store.decisions import require_not_forgotten

if TYPE_CHECKING:
    from cytonet_pipeline.dataset import Brain

_log = logging.getLogger(__name__)


class BrainStage(StampedStage[str]):
    """A stage of one brain that leaves a verdict, `status.json`, beside its result.

    Attributes
    ----------
    picture : str
        File name of the picture for the asset page.
    picture_title : str
    figures : tuple of str
        Names of the figures that its page shows first, in this order.
    """

    group = "histology"
    partition_set = "brain"
    picture: ClassVar[str]
    picture_title: ClassVar[str]
    figures: ClassVar[tuple[str, ...]]

    def run(self, settings: Settings, partition: str, *, recompute: bool = False) -> None:
        """See `Stage.run`.

        Raises
        ------
        StoreError
            The brain was forgotten, or would lose so many sections that it waits for confirmation.
        """
        self.require_confirmation(settings, partition)
        super().run(settings, partition, recompute=recompute)

    def require_confirmation(self, settings: Settings, brain: str) -> None:
        """Refuse a brain on which a person decides: a forgotten one, and one that would lose many sections.

        Raises
        ------
        StoreError
            It is one; the message says what to do.
        """
        require_not_forgotten(store_of(settings), brain)
        loss = loss_of(settings, brain_of(settings, brain))
        if loss is not None:
            raise fault_of(settings, loss)

    def compute(self, settings: Settings, partition: str, folder: Path, inputs: Inputs, *, recompute: bool) -> None:
        """Ingest the brain; a fault in its data becomes its verdict."""
        brain = brain_of(settings, partition)
        try:
            verdict = self.ingest(settings, brain, folder, recompute=recompute)
        except DataFault as fault:
            _log.error("%s", fault)
            verdict = Verdict.failed(fault)
        verdict.write(folder)
        # Again, before the result takes its place: hours may have passed.
        require_not_forgotten(store_of(settings), partition)

    @abstractmethod
    def ingest(self, settings: Settings, brain: "Brain", folder: Path, *, recompute: bool) -> Verdict:
        """Write what is sound into `folder` and return the verdict on it.

        Raises
        ------
        DataFault
            Nothing of this brain can be used.
        """

    def digest(self, settings: Settings, brain: str) -> str:
        """Return the digest of the stored result; "missing" before it is there, "failed" if it must not be used."""
        return digest_left_in(self.folder(settings, brain))

    def verdict(self, settings: Settings, partition: str) -> Verdict:
        """See `Stage.verdict`."""
        return Verdict.read(self.folder(settings, partition))

    def require(self, settings: Settings, brain: str, what: str) -> Path:
        """Return the folder of a usable result: blocking checks of Dagster do not reach across runs.

        Parameters
        ----------
        what : str
            Name of the result in the message.

        Raises
        ------
        DataFault
            The result must not be used.
        """
        folder = self.folder(settings, brain)
        require_usable_result(folder, what)
        return folder

    def earlier(self, settings: Settings, brain: str) -> Path | None:
        """Return the folder of a whole result of the present code, whatever it was made from; None if there is none."""
        folder = self.folder(settings, brain)
        if faults_in(folder, digests=True):
            return None  # Nothing is taken over from it; it is made again.
        stamp = read_stamp(folder)
        return folder if stamp is not None and stamp.get("code") == self.code_version else None

    def summary(self, settings: Settings, partition: str) -> Summary:
        """See `Stage.summary`; with the reason if the brain takes no part in training now."""
        from cytonet_pipeline.lineage import brains_left_out

        folder = self.folder(settings, partition)
        verdict = Verdict.read(folder)
        waits = loss_of_named(settings, partition)
        remarks = [] if waits is None else [str(fault_of(settings, waits))]
        remarks += [f"in no training set: {reason}" for reason in brains_left_out(settings, [partition]).values()]
        return Summary(
            folder,
            verdict.digest or "failed",
            status=verdict.status,
            reasons=(*remarks, *verdict.reasons),
            numbers={name: verdict.numbers[name] for name in self.figures if name in verdict.numbers} | verdict.numbers,
            pictures={self.picture_title: beside(folder, self.picture)},
        )


def brain_of(settings: Settings, name: str) -> "Brain":
    """Return a brain of the data set."""
    from cytonet_pipeline.dataset import Dataset

    return Dataset(settings.data, settings.experiments.dataset).brain(name)


def require_usable_result(folder: Path, what: str) -> None:
    """Refuse a result that its own verdict calls failed.

    Parameters
    ----------
    what : str
        Name of the result in the message.

    Raises
    ------
    DataFault
        The result must not be used.
    """
    verdict = Verdict.read(folder)
    if not verdict.ok:
        raise DataFault(
            f"not computed: the {what} cannot be used.",
            looked_for=str(beside(folder, "status.json")),
            to_fix="; ".join(reason.splitlines()[0] for reason in verdict.reasons),
        )
