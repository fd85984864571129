"""Finding the brains to ingest in bounded time, by remembering what earlier looks have found.

A data set of 100 brains has two million files, and a sensor looks every minute. Each look compares the times of every
brain's folders and tables (`dataset/changes.py`); a brain in which they differ is examined. In the time that is left
the files of the other brains are looked at, one brain after the other, look after look: a file that was overwritten in
place changes no folder, and is found when its brain's turn comes. What was found is kept as text, the sensor's cursor.
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.histology import COLIN27_TRANSFORMS, PATCH_INDEX, SECTION_SCANS
from cytonet_pipeline.stages.reference import REFERENCE_SPACE
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.store import digest_left_in, digest_of, stamp_path
from cytonet_pipeline.store.decisions import paths_about

if TYPE_CHECKING:
    from cytonet_pipeline.dataset import Dataset

BRAIN_STAGES = (SECTION_SCANS, COLIN27_TRANSFORMS, PATCH_INDEX)
# No brain is begun on after this time, and one that is begun on is finished.
BUDGET_S = 1.0
_FORMAT = 1
# A brain that reads more from elsewhere is examined as a whole when its turn comes, and not at a glance.
_MOST_OTHERS = 20
_LONGEST_TEXT = 1000

Answer = Literal["current", "pending", "faulty", "writing"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """What a look found about a brain.

    Attributes
    ----------
    glance : str
        Digest of the times of its folders, tables and stored results.
    files : str
        Digest of sizes and times of all its files and stored results.
    answer : str
        `current`: nothing to do; `pending`: to be ingested; `faulty`: cannot be; `writing`: not quiet for long enough.
    text : str
        Of a pending brain, the digest of what it would be made from; of the others, what to tell people.
    until : float
        When a brain that is being written is looked at again (seconds since 1970).
    elsewhere : tuple of str
        Folders and files outside of its own folders that it reads; the first of them.
    """

    glance: str
    files: str
    answer: Answer
    text: str = ""
    until: float = 0.0
    elsewhere: tuple[str, ...] = ()


@dataclass
class Watch:
    """What is known of the brains of a data set from earlier looks.

    Attributes
    ----------
    common : str
        Digest of settings and files that belong to all brains; after a change all of them are examined again.
    last : str
        The brain that was looked at last: the next look goes on behind it.
    findings : dict
        By brain.
    unexamined : list of str
        Released brains that no look has come to yet.
    """

    common: str = ""
    last: str = ""
    findings: dict[str, Finding] = field(default_factory=dict)
    unexamined: list[str] = field(default_factory=list)

    @classmethod
    def from_text(cls, text: str | None) -> "Watch":
        """Read what `as_text` wrote; text of another version, or none, is nothing known."""
        try:
            known: dict[str, Any] = json.loads(text or "{}")
            if known.pop("format", None) != _FORMAT:
                return cls()
            findings = {brain: _as_finding(*values) for brain, values in known.pop("brains").items()}
            return cls(**known, findings=findings)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            return cls()

    def as_text(self) -> str:
        """Return what is known as JSON; about 80 bytes per brain."""
        brains = {
            brain: [f.glance, f.files, f.answer, f.text, f.until, list(f.elsewhere)]
            for brain, f in sorted(self.findings.items())
        }
        known = {"format": _FORMAT, "common": self.common, "last": self.last, "brains": brains}
        return json.dumps(known, separators=(",", ":"))

    def look(self, settings: Settings, budget_s: float = BUDGET_S) -> dict[str, Finding]:
        """Look at the brains that seem to have changed, and in the time that is left at others; at one at least.

        Returns
        -------
        dict
            What is known now of each released brain; those of `unexamined` are missing.

        Raises
        ------
        ConfigurationError
            The data set cannot be read.
        """
        from cytonet_pipeline.dataset import Dataset

        dataset = Dataset(settings.data, settings.experiments.dataset)
        common = _common(settings, dataset)
        if common != self.common:
            self.common, self.findings = common, {}
        by_table = dataset.releases_by_table()
        brains = dataset.listed_as_ready() if by_table else dataset.brains()
        self.findings = {brain: self.findings[brain] for brain in brains if brain in self.findings}
        glances = {brain: self._glance(settings, dataset, brain) for brain in brains}
        began, looked_at_any = time.monotonic(), False
        for brain in self._in_turn(glances):
            if looked_at_any and time.monotonic() - began >= budget_s:
                break
            looked_at_any = True
            self.last = brain
            self.findings[brain] = self._finding(settings, dataset, brain, glances[brain], must_be_quiet=not by_table)
        self.unexamined = [brain for brain in brains if brain not in self.findings]
        return dict(self.findings)

    def is_as_found(self, settings: Settings, brain: str) -> bool:
        """Whether the files of a brain are as they were when it was examined; if not, the next look examines it.

        Asked before a run is requested: hours may have passed while the brain waited for its turn.
        """
        from cytonet_pipeline.dataset import Dataset

        finding, dataset = self.findings[brain], Dataset(settings.data, settings.experiments.dataset)
        if finding.files == _files(settings, dataset, brain)[0]:
            return True
        self.findings[brain] = replace(finding, glance="")
        return False

    def _in_turn(self, glances: dict[str, str]) -> Iterator[str]:
        """Yield the brains in turn from the last one on, first those that are new or seem to have changed."""
        behind = sorted(glances, key=lambda brain: (brain <= self.last, brain))
        urgent = [brain for brain in behind if self._seems_changed(brain, glances[brain])]
        yield from urgent
        yield from (brain for brain in behind if brain not in set(urgent))

    def _seems_changed(self, brain: str, glance: str) -> bool:
        known = self.findings.get(brain)
        if known is None or known.glance != glance:
            return True
        return known.answer == "writing" and time.time() >= known.until

    def _glance(self, settings: Settings, dataset: "Dataset", brain: str) -> str:
        from cytonet_pipeline.dataset.changes import times_at_a_glance, times_of

        known = self.findings.get(brain)
        elsewhere = known.elsewhere[:_MOST_OTHERS] if known is not None else ()
        stamps = [stamp_path(stage.folder(settings, brain)) for stage in BRAIN_STAGES]
        folders = [stage.folder(settings, brain) for stage in BRAIN_STAGES]
        in_store = times_of([*stamps, *folders, *paths_about(store_of(settings), brain)])
        return digest_of([times_at_a_glance(dataset.root, brain, elsewhere), in_store])

    def _finding(
        self, settings: Settings, dataset: "Dataset", brain: str, glance: str, *, must_be_quiet: bool
    ) -> Finding:
        """Look at the files of a brain, and examine it if they are others than at the last look."""
        known = self.findings.get(brain)
        try:
            files, last_change, last_changed = _files(settings, dataset, brain)
            quiet_s = 60 * settings.experiments.dataset.quiet_minutes
            if must_be_quiet and time.time() - last_change < quiet_s:
                return _writing(glance, files, last_change, last_changed, quiet_s)
            if known is not None and known.files == files and known.answer != "writing" and not known.elsewhere:
                return replace(known, glance=glance)
            found = _examine(settings, brain, glance, files)
            # The glance at what lies elsewhere is possible now that it is known.
            self.findings[brain] = found
            return replace(found, glance=self._glance(settings, dataset, brain)) if found.elsewhere else found
        except (CytonetError, OSError) as error:
            return Finding(glance, "", "faulty", str(error)[:_LONGEST_TEXT])
        except Exception as error:  # A bug that one brain meets is no reason to leave out all others.
            _log.exception("sub-%s cannot be examined", brain)
            return Finding(glance, "", "faulty", f"{type(error).__name__}: {error}"[:_LONGEST_TEXT])


def _as_finding(glance: str, files: str, answer: Answer, text: str, until: float, elsewhere: list[str]) -> Finding:
    return Finding(glance, files, answer, text, until, tuple(elsewhere))


def inputs_of_brain(settings: Settings, brain: str) -> str:
    """Return a digest of the files, the settings and the reference that a brain is ingested from.

    No result of the brain itself is part of it, unlike of what makes its stages current: it stays the same from the
    moment in which a run is requested until the run has ended. The store is part of it: in another one, nothing has
    been tried yet.
    """
    content = [
        str(settings.store),
        SECTION_SCANS.inputs(settings, brain),
        digest_left_in(REFERENCE_SPACE.folder(settings)),
        settings.experiments.dataset.model_dump(mode="json"),
        *(stage.code_version for stage in BRAIN_STAGES),
    ]
    return digest_of(content)


def _examine(settings: Settings, brain: str, glance: str, files: str) -> Finding:
    """Compare a brain with the store, with one reading of it."""
    from cytonet_pipeline.dataset.changes import outside_of
    from cytonet_pipeline.dataset.once import read_once
    from cytonet_pipeline.stages.brain_stage import brain_of

    answer: Answer = "current"
    text = ""
    with read_once():
        if not all(stage.is_current(settings, brain) for stage in BRAIN_STAGES):
            SECTION_SCANS.require_confirmation(settings, brain)
            answer, text = "pending", inputs_of_brain(settings, brain)
        elsewhere = tuple(str(path) for path in outside_of(brain_of(settings, brain))[:_MOST_OTHERS])
    return Finding(glance, files, answer, text, elsewhere=elsewhere)


def _files(settings: Settings, dataset: "Dataset", brain: str) -> tuple[str, float, str]:
    """Return a digest of the files and stored results of a brain, when and where a file last changed."""
    from cytonet_pipeline.dataset.changes import times_of, walk_files

    files = walk_files(dataset.root, brain)
    folders = [stage.folder(settings, brain) for stage in BRAIN_STAGES]
    results = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    decided = paths_about(store_of(settings), brain)
    # A brain without any file has just been listed in the table of participants.
    last_change = time.time() if files.last_change is None else files.last_change
    return digest_of([files.digest, times_of([*results, *decided])]), last_change, files.last_changed


def _writing(glance: str, files: str, last_change: float, path: str, quiet_s: float) -> Finding:
    from cytonet_pipeline.dataset.release import future_text

    until = last_change + quiet_s
    if text := future_text(path, last_change):
        return Finding(glance, files, "writing", text, until)
    place = f", {path}" if path else ""
    text = (
        f"still being written: last change {_clock(last_change)}{place}; taken on {_clock(until)} unless it changes "
        f"again (quiet_minutes: {quiet_s / 60:g}), or at once when participants.tsv has `ingest` ready for it"
    )
    return Finding(glance, files, "writing", text, until)


def _common(settings: Settings, dataset: "Dataset") -> str:
    from cytonet_pipeline.dataset.changes import times_of, times_of_shared

    reference = REFERENCE_SPACE.folder(settings)
    return digest_of(
        [
            str(dataset.root),
            str(settings.store),
            settings.experiments.dataset.model_dump(mode="json"),
            settings.experiments.ingest.model_dump(mode="json"),
            [stage.code_version for stage in BRAIN_STAGES],
            times_of_shared(dataset.root),
            times_of([reference, stamp_path(reference)]),
        ]
    )


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
