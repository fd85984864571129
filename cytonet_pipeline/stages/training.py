"""The two stages of training: what an encoder may see, and its weights.

The version of a training set is the digest of all that decides the weights, so here versions are compared instead of
stamps: the training set is current while today's brains and settings give the version that was decided on, the encoder
while the version in use is that one. All state of a training run lies in the encoder's folder; nothing is handed over
in memory.
"""

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cytonet_pipeline.errors import StoreError, TrainingError
from cytonet_pipeline.settings import TRAINING_CODE_VERSION, Settings
from cytonet_pipeline.stages.gate import enter, gate_texts, held_back
from cytonet_pipeline.stages.lineage_page import roles_text, sections_text
from cytonet_pipeline.stages.stage import Stage, Summary, store_of
from cytonet_pipeline.stages.waiting import reason_not_to_train
from cytonet_pipeline.store import (
    Verdict,
    current_inputs,
    open_store,
    read_record,
    read_table,
    verdict_on_encoder,
    write_stamp,
)
from cytonet_pipeline.store.pins import pin_of, pin_texts

if TYPE_CHECKING:
    pass

_log = logging.getLogger(__name__)


class TrainingSetStage(Stage[str]):
    """Exactly which sections, transforms and patches an encoder may see."""

    name = "training_set"
    group = "training"
    partition_set = "encoder"
    # Part of the version, with the encoder's block and all digests.
    code_version = TRAINING_CODE_VERSION
    tables: ClassVar = {"training_sections": "sections.parquet"}

    def folder(self, settings: Settings, partition: str) -> Path:
        """See `Stage.folder`."""
        version = self.decided_version(settings, partition)
        if version is None:
            raise StoreError(
                f"encoder {partition}: no training set has been decided.",
                looked_for=str(settings.store / "training_sets" / f"{partition}.json"),
                to_fix=f"materialise training_set first, or: cytonet run --encoders {partition}",
            )
        return store_of(settings).training_set(version)

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`; nothing is written."""
        from cytonet_pipeline.lineage import resolve_training_set

        return {"version": resolve_training_set(partition, settings, store_of(settings))[0].version}

    def recorded_inputs(self, settings: Settings, partition: str) -> dict[str, Any] | None:
        """See `Stage.recorded_inputs`."""
        version = self.decided_version(settings, partition)
        if version is None:
            return None
        folder = store_of(settings).training_set(version)
        return current_inputs(folder)

    def is_current(self, settings: Settings, partition: str) -> bool:
        """See `Stage.is_current`; what was decided also stays while one of its brains waits, or a version is pinned."""
        return self._waits(settings, partition) or super().is_current(settings, partition)

    def _waits(self, settings: Settings, encoder: str) -> bool:
        try:
            version = self.decided_version(settings, encoder)
            in_use = version is not None and version == store_of(settings).current_version(encoder)
        except StoreError:
            return False  # Damaged: deciding again repairs it.
        return (
            in_use
            and self.recorded_inputs(settings, encoder) is not None
            and bool(reason_not_to_train(settings, encoder))
        )

    def decided_version(self, settings: Settings, encoder: str) -> str | None:
        """Return the version that the encoder is to be trained on; None before the first decision."""
        return store_of(settings).wanted_version(encoder)

    def verdict(self, settings: Settings, partition: str) -> Verdict:
        """See `Stage.verdict`: failed if what the encoder is to be tested on leaks into training, or none is left.

        Pre-training without labels counts too: a run that saw test sections is another protocol.
        """
        folder = self.folder(settings, partition)
        sections = read_table(folder / "sections.parquet", "training_sections")
        seen = sections[sections["n_training_patches"] > 0]
        kept_free = ~seen["role"].isin(["train", "validation"]) | (seen["brain"] == settings.held_out(partition))
        leaking = [f"{row.brain}/{row.sample} leaks into training" for row in seen[kept_free].itertuples()]
        if seen.empty:
            leaking = ["there is no section to train on"]
        return Verdict("failed", tuple(leaking)) if leaking else Verdict("ok", digest=folder.name)

    def require_usable(self, settings: Settings, partition: str) -> None:
        """See `Stage.require_usable`."""
        verdict, folder = self.verdict(settings, partition), self.folder(settings, partition)
        if not verdict.ok:
            raise TrainingError(
                f"encoder {partition}: nothing is trained on the training set {folder.name}: "
                f"{'; '.join(verdict.reasons)}.",
                looked_for=str(folder / "sections.parquet"),
                to_fix="correct held_out and the splits in the experiments file, then materialise training_set again",
            )

    def run(self, settings: Settings, partition: str, *, recompute: bool = False) -> None:
        """Decide what the encoder may see and write it down; deciding again is cheap and gives the same."""
        from cytonet_pipeline.lineage import read_training_set, resolve_training_set, write_training_set

        store = open_store(settings)
        pinned = pin_of(store, partition)
        if pinned is not None:
            _log.warning("%s", pinned.text)
            write_training_set(store, read_training_set(store, pinned.pinned))
            store.point_wanted(partition, pinned.pinned)
            return
        if self._waits(settings, partition):
            _log.warning("%s", reason_not_to_train(settings, partition))
            return
        training_set, _ = resolve_training_set(partition, settings, store)
        write_training_set(store, training_set)
        store.point_wanted(partition, training_set.version)

    def summary(self, settings: Settings, partition: str) -> Summary:
        """See `Stage.summary`; with the differences from what the encoder in use has seen."""
        from cytonet_pipeline.lineage import read_training_set, would_change

        store = store_of(settings)
        folder = self.folder(settings, partition)
        training_set = read_training_set(store, folder.name)
        sections = training_set.sections
        numbers = {
            "version": training_set.version,
            "brains": int(sections["brain"].nunique()),
            **{f"sections {role}": int(n) for role, n in sections["role"].value_counts().items()},
            "patches": int(sections["n_training_patches"].sum()),
            "left out": training_set.record.get("left_out", {}),
            "warnings": training_set.record.get("warnings", []),
        }
        changes = would_change(partition, settings, store)
        if changes is None:
            text = "first training of this encoder"
        else:
            text = "\n".join(f"* {line}" for line in changes) or "nothing: the current encoder saw exactly this"
        return Summary(
            folder,
            training_set.version,
            reasons=pin_texts(store_of(settings), partition),
            numbers=numbers,
            texts={"what changed": text, "sections": roles_text(sections)},
        )


class EncoderStage(Stage[str]):
    """The pretrained encoder: prepared, trained by a launcher, collected."""

    name = "encoder"
    group = "training"
    partition_set = "encoder"
    code_version = TRAINING_CODE_VERSION
    tables: ClassVar = {
        "training_sections": "sections.parquet",
        "training_patches": "patches.parquet",
        "history": "history.parquet",
    }

    def folder(self, settings: Settings, partition: str) -> Path:
        """Return the folder of the decided version, whether it is trained or not."""
        version = TRAINING_SET.folder(settings, partition).name
        return store_of(settings).encoder(partition, version)

    def inputs(self, settings: Settings, partition: str) -> dict[str, Any]:
        """See `Stage.inputs`."""
        return {"version": self.folder(settings, partition).name}

    def recorded_inputs(self, settings: Settings, partition: str) -> dict[str, Any] | None:
        """See `Stage.recorded_inputs`: the version in use, if it is whole.

        A decided version that is trained and failed its check, or that the gate holds back, is not in use and need not
        be trained again.
        """
        store = store_of(settings)
        decided = TRAINING_SET.decided_version(settings, partition)
        left = decided is not None and (
            self.has_failed(settings, partition, decided) or held_back(store, partition, decided) is not None
        )
        version = decided if left else store.current_version(partition)
        if version is None:
            return None
        folder = store.encoder(partition, version)
        return current_inputs(folder) if is_trained(folder) else None

    def verdict(self, settings: Settings, partition: str) -> Verdict:
        """See `Stage.verdict`: on the decided version."""
        return verdict_on_encoder(self.folder(settings, partition))

    def require_usable(self, settings: Settings, partition: str) -> None:
        """See `Stage.require_usable`: of the decided version."""
        self.require_sound(settings, partition, self.folder(settings, partition).name)

    def has_failed(self, settings: Settings, encoder: str, version: str) -> bool:
        """Whether a version is trained and failed its check."""
        folder = store_of(settings).encoder(encoder, version)
        return is_trained(folder) and not verdict_on_encoder(folder).ok

    def version_in_use(self, settings: Settings, encoder: str) -> str:
        """Return the version that evaluation takes.

        Raises
        ------
        StoreError
            The encoder is not trained.
        TrainingError
            The version failed its check.
        """
        version = store_of(settings).current_encoder(encoder).name
        self.require_sound(settings, encoder, version)
        return version

    def require_sound(self, settings: Settings, encoder: str, version: str) -> None:
        """Refuse a version that failed its check; one that is not trained has none.

        Raises
        ------
        TrainingError
            It failed; with what is wrong, and which version stays in use.
        """
        if not self.has_failed(settings, encoder, version):
            return
        folder = store_of(settings).encoder(encoder, version)
        current = store_of(settings).current_version(encoder)
        instead = "no version is in use" if current in (None, version) else f"{current} stays in use"
        raise TrainingError(
            f"encoder {encoder}: version {version} failed its check, {instead}: "
            f"{'; '.join(verdict_on_encoder(folder).reasons)}.",
            looked_for=str(folder / "encoder.json"),
            to_fix="change its entry in the experiments file, which gives another version; curves.png beside the "
            "record shows how the training went",
        )

    def run(self, settings: Settings, partition: str, *, recompute: bool = False) -> None:
        """Prepare, train on this machine, and collect; Dagster's ops do the same with any launcher, and follow it.

        Raises
        ------
        TrainingError
            The training run failed, or the encoder its check, or a job on the cluster trains this version.
        """
        from cytonet_pipeline.cluster.local import LocalLauncher

        if self.is_current(settings, partition) and self.is_drawn(settings, partition) and not recompute:
            self.require_usable(settings, partition)
            return
        folder = self.prepare(settings, partition, recompute=recompute)
        if not is_trained(folder):
            _require_no_job(settings, partition, folder)
            LocalLauncher(settings.data, processes=settings.encoder(partition).processes).train(folder)
        self.collect(settings, partition)
        self.require_usable(settings, partition)

    def prepare(self, settings: Settings, encoder: str, *, recompute: bool = False) -> Path:
        """Lay out the folder of the decided version, and return it; a complete one is left alone.

        Raises
        ------
        TrainingError
            `recompute`, but a training run of this version waits or runs; or the training set leaks.
        """
        from cytonet_pipeline.learning.prepare import prepare

        store = open_store(settings)
        folder = self.folder(settings, encoder)
        if recompute and folder.exists():
            _require_no_training_run(settings, encoder, folder)
            _require_decided_now(settings, encoder, folder)
        TRAINING_SET.require_usable(settings, encoder)
        if recompute and folder.exists():
            shutil.rmtree(folder)
        return prepare(settings, store, encoder)

    def collect(self, settings: Settings, encoder: str, *, despite_gate: bool = False) -> None:
        """Check that the training is whole, draw its curves, and put it into use.

        Not if its check failed, or the gate holds it back.

        Parameters
        ----------
        despite_gate : bool
            A person has decided to use it although the gate would hold it back.
        """
        from cytonet_pipeline.learning.prepare import finish
        from cytonet_pipeline.reporting.curves import training_curves

        folder = self.folder(settings, encoder)
        finish(folder)
        if (folder / "history.parquet").exists():
            history = read_table(folder / "history.parquet", "history")
            if not history.empty:
                training_curves(history, folder / "curves.png", title=encoder)
        # A stamp of its files; what makes an encoder current is its version.
        write_stamp(folder, {"version": folder.name})
        if not self.verdict(settings, encoder).ok:
            return
        enter(settings, encoder, folder.name, despite_gate=despite_gate)

    def summary(self, settings: Settings, partition: str) -> Summary:
        """See `Stage.summary`; with what its job on a cluster took."""
        from cytonet_pipeline.cluster.launchers import job_facts

        folder, verdict = self.folder(settings, partition), self.verdict(settings, partition)
        record, block = read_record(folder / "encoder.json"), settings.encoder(partition)
        figures = dict(record.get("figures", {}))
        numbers = {
            "version": folder.name,
            "method": block.method,
            "backbone": record.get("backbone"),
            "brain that it never saw": settings.held_out(partition),
            **{name: figures.pop(key) for key, name in _HEADLINE.items() if key in figures},
            "job on the cluster": job_facts(folder),
            **figures,
            "problems": record.get("problems", []),
        }
        return Summary(
            folder,
            folder.name,
            status=verdict.status,
            reasons=(
                *verdict.reasons,
                *pin_texts(store_of(settings), partition),
                *gate_texts(store_of(settings), partition, folder.name),
            ),
            numbers=numbers,
            pictures={"training curves": folder / "curves.png"},
            texts={"sections": sections_text(settings, partition, folder.name)},
        )


# Figures that a page shows first, by their name in `encoder.json`, with the limits of its check.
_HEADLINE = {
    "distinct patches": "training patches",
    "steps": "steps",
    "knn_accuracy": "k-NN accuracy on validation sections",
    "effective_rank": "effective rank (below 5: collapse)",
    "mean_cosine": "mean cosine (above 0.95: collapse)",
    "seconds": "training time (s)",
}

TRAINING_SET = TrainingSetStage()
ENCODER = EncoderStage()


def is_trained(folder: Path) -> bool:
    """Whether the training run of an encoder's folder has finished: `encoder.json` is written last."""
    return (folder / "encoder.json").exists()


def _require_decided_now(settings: Settings, encoder: str, folder: Path) -> None:
    """Refuse to train a version again in its place if today's brains and settings give another one."""
    now = TRAINING_SET.inputs(settings, encoder)["version"]
    if now != folder.name:
        raise TrainingError(
            f"encoder {encoder}: version {folder.name} cannot be trained again in its place, brains and settings of "
            f"today give {now}.",
            looked_for=str(folder),
            to_fix=f"compare it in a folder of its own: cytonet reproduce {encoder}@{folder.name}",
        )


def _require_no_job(settings: Settings, encoder: str, folder: Path) -> None:
    """Refuse to train beside a job on the cluster; a run on this machine is joined."""
    from cytonet_pipeline.cluster.launchers import launcher_of

    attempt = launcher_of(settings, encoder, lambda line: None).running(folder)
    if attempt is not None and attempt.survives:
        raise TrainingError(
            f"encoder {encoder}: attempt {attempt.number} ({attempt.label}) waits or runs on the cluster.",
            looked_for=str(attempt.place),
            to_fix=f"follow it with: cytonet run --encoders {encoder}",
        )


def _require_no_training_run(settings: Settings, encoder: str, folder: Path) -> None:
    """Refuse to remove a folder with a live job: without its record a second job would be submitted."""
    from cytonet_pipeline.cluster.launchers import launcher_of

    attempt = launcher_of(settings, encoder, lambda line: None).running(folder)
    if attempt is not None:
        raise TrainingError(
            f"encoder {encoder}: attempt {attempt.number} ({attempt.label}) waits or runs; it is not thrown away.",
            looked_for=str(attempt.place),
            to_fix="run without recompute to join it, or terminate its run first",
        )
