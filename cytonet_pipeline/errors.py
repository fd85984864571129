"""The few errors that this package raises on purpose.

Every message says which file or brain, what is wrong and what to do. Whatever else escapes is a bug of ours.
"""

from collections.abc import Sequence


class CytonetError(Exception):
    """A fault that the reader of the message can fix.

    Parameters
    ----------
    what : str
        One sentence: the file, brain or setting, and what is wrong with it.
    looked_for : str or sequence of str
        Where it was looked for, if that helps.
    to_fix : str
        What to do about it.
    meanwhile : str
        What goes on without it.
    """

    def __init__(
        self,
        what: str,
        *,
        looked_for: str | Sequence[str] = (),
        to_fix: str = "",
        meanwhile: str = "",
    ) -> None:
        self.what = what
        self.looked_for = (looked_for,) if isinstance(looked_for, str) else tuple(looked_for)
        self.to_fix = to_fix
        self.meanwhile = meanwhile
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  looked for  {place}" for place in self.looked_for]
        if self.to_fix:
            lines.append(f"  to fix      {self.to_fix}")
        if self.meanwhile:
            lines.append(f"  meanwhile   {self.meanwhile}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries (data loaders, step workers); the default keeps only `args`.
        return _rebuild, (type(self), self.what, self.looked_for, self.to_fix, self.meanwhile)


def _rebuild(
    kind: type[CytonetError], what: str, looked_for: tuple[str, ...], to_fix: str, meanwhile: str
) -> CytonetError:
    return kind(what, looked_for=looked_for, to_fix=to_fix, meanwhile=meanwhile)


class ConfigurationError(CytonetError):
    """Environment, experiments file or command line ask for something that cannot be."""


class DataFault(CytonetError):
    """Something about a brain, a section or the reference: reported with its reason, the rest goes on."""


class ScanError(DataFault):
    """A scan, mask or annotation that cannot be read, or does not say what it must."""


class TransformError(DataFault):
    """A transform that is missing, unreadable, for something else, or cannot be inverted."""


class ReferenceSpaceError(DataFault):
    """The reference space is incomplete or contradicts itself."""


class StoreError(CytonetError):
    """The store cannot be written, or holds something that this version does not read."""


class DamagedResult(StoreError):
    """A file of a result is missing or not as it was written: the result counts as stale, and is made again."""


class TrainingError(CytonetError):
    """A training run that cannot start or must not go on."""


class ClusterError(CytonetError):
    """The cluster, its profile or a job there."""


class SubmissionRefused(ClusterError):
    """The cluster does not accept a job; with its own message."""


class TransportDown(ClusterError):
    """The cluster cannot be asked now: a state that passes or that a login ends, not a failure of any job."""
