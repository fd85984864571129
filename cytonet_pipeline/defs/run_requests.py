"""Decide whether another run of a brain or an encoder is requested, by the runs that it has had.

No run keys: Dagster remembers them for ever, so that a brain whose run has failed would never come, and one whose files
change while its run goes on would be started twice. A partition with an unfinished run waits for it. One whose last run
failed is requested again, each time after twice the time, until its inputs change or a person starts a run. One whose
run a person has cancelled waits for either. Whatever is held back is named on every tick, with its reason.
"""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from cytonet_pipeline.defs.dagster_internals import EarlierRun, partitions_in_backfills, queued_runs, runs_of
from cytonet_pipeline.defs.instance import fail_orphaned_runs

# What a run was requested or made from; the sensor, the schedule and the first asset of each job set it. A digest, for
# the next tick and not for people: Dagster's pages leave out tags that begin in this way.
INPUTS_TAG = ".dagster/cytonet_inputs"
# How many runs there have been with these inputs, this one included.
ATTEMPT_TAG = "cytonet/attempt"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 600.0, 86400.0
_MOST_NAMED = 20
_CLOCKS_DIFFER_S = 60.0
_CLOCK_AHEAD = "; the run ended ahead of this machine's clock, which was set back or differs from that of another host"


@dataclass(frozen=True)
class RunDecisions:
    """Runs to request, and partitions for which none is requested now.

    Attributes
    ----------
    requests : list of RunRequest
    held_back : dict
        Reason by partition.
    """

    requests: list[dg.RunRequest] = field(default_factory=list)
    held_back: dict[str, str] = field(default_factory=dict)

    def held_back_text(self, what: str) -> str:
        """Return the reasons as text for people, one partition per line.

        Parameters
        ----------
        what : str
            What is held back, in the plural.
        """
        lines = [f"{name}: {reason}" for name, reason in sorted(self.held_back.items())]
        more = [f"and {len(lines) - _MOST_NAMED} more"] if len(lines) > _MOST_NAMED else []
        return "\n".join([f"{what} held back: {len(lines)}", *lines[:_MOST_NAMED], *more])


def decide_runs(
    instance: dg.DagsterInstance,
    job: str,
    assets: Collection[str],
    pending: Mapping[str, str],
    *,
    run_keys: bool = False,
    most: int | None = None,
    tags_of: Mapping[str, Mapping[str, str]] | None = None,
) -> RunDecisions:
    """Decide for each partition whether a run of a job is requested now.

    Parameters
    ----------
    assets : collection of str
        Assets of the job: a run of any of them counts.
    pending : mapping
        By partition, the digest of the inputs that a run would have now.
    run_keys : bool
        Give each request the partition's name as its run key. A schedule needs it, to tell the requests of one tick
        apart; there it holds for that tick only.
    most : int, optional
        How many are requested at a time; runs that wait in the queue count. The others have to wait for their turn, in
        the order of `pending`.
    tags_of : mapping, optional
        By partition, further tags of its run.
    """
    fail_orphaned_runs(instance)
    backfills = partitions_in_backfills(instance, job, assets)
    decided = RunDecisions()
    places = math.inf if most is None else most - queued_runs(instance, job)
    for partition, inputs in pending.items():
        if len(decided.requests) >= places:
            decided.held_back[partition] = f"waits for its turn: at most {most} runs of {job} are requested at a time"
            continue
        earlier = runs_of(instance, job, assets, partition)
        reason = _unfinished(earlier)
        if reason is None and partition in backfills:
            reason = f"waits for the backfill {backfills[partition]}, which includes it"
        attempts = attempts_with(earlier, inputs)
        reason = reason or _pause(earlier, attempts, inputs, job, time.time())
        if reason is not None:
            decided.held_back[partition] = reason
            continue
        tags = {INPUTS_TAG: inputs, ATTEMPT_TAG: str(attempts + 1), **(tags_of or {}).get(partition, {})}
        run_key = partition if run_keys else None
        decided.requests.append(dg.RunRequest(run_key=run_key, partition_key=partition, tags=tags))
    return decided


def record_inputs(context: dg.AssetExecutionContext, inputs: str) -> None:
    """Note in a run's tags what it is made from, whoever has started it, and whatever it was requested for."""
    context.instance.add_run_tags(context.run.run_id, {INPUTS_TAG: inputs})


def attempts_with(earlier: Sequence[EarlierRun], inputs: str) -> int:
    """Count the latest runs that had these inputs, as far as is known, and did not bring the result up to date.

    Parameters
    ----------
    earlier : sequence of EarlierRun
        The newest first.
    """
    count = 0
    for run in earlier:
        given = run.tags.get(INPUTS_TAG)
        # A success without the tag is of the time before, or of an asset that needs no other: of other inputs.
        if given not in (inputs, None) or (given is None and run.status is dg.DagsterRunStatus.SUCCESS):
            break
        count += 1
    return count


def pause_s(attempts: int) -> float:
    """Return how long to wait after so many attempts: ten minutes, twice as long each time, a day at most."""
    return float(min(FIRST_PAUSE_S * 2 ** min(attempts - 1, 20), LONGEST_PAUSE_S))


def _unfinished(earlier: Sequence[EarlierRun]) -> str | None:
    for run in earlier:
        if not run.ended:
            return f"run {_short(run)} is {run.status.value.lower().replace('_', ' ')}, since {_clock(run.since)}"
    return None


def _pause(earlier: Sequence[EarlierRun], attempts: int, inputs: str, job: str, now: float) -> str | None:
    """Say why a partition without an unfinished run has to wait; None if it need not."""
    if attempts == 0:
        return None
    last = earlier[0]
    pause = pause_s(attempts)
    if last.status is dg.DagsterRunStatus.CANCELED:
        if last.tags.get(INPUTS_TAG) == inputs:
            return (
                f"run {_short(last)} was cancelled on {_clock(last.since)}; "
                f"requested again when its inputs change or a person starts {job} for it"
            )
        pause = LONGEST_PAUSE_S
    # Where the clock was set back, the time of the last run says nothing: else a partition would wait for the clock.
    # A host whose clock is a little ahead makes a pause longer, and does not do away with it.
    ahead = last.since - now
    if ahead <= -pause or ahead > pause:
        return None
    ending = {
        dg.DagsterRunStatus.FAILURE: "failed",
        dg.DagsterRunStatus.CANCELED: "was cancelled",
        dg.DagsterRunStatus.SUCCESS: "succeeded, and yet the store is not up to date",
    }[last.status]
    return (
        f"run {_short(last)}, attempt {attempts}, {ending} on {_clock(last.since)}; requested again on "
        f"{_clock(last.since + pause)}, or at once when its inputs change or a person starts {job} for it"
        f"{_CLOCK_AHEAD if ahead > _CLOCKS_DIFFER_S else ''}"
    )


def _short(run: EarlierRun) -> str:
    return run.run_id[:8]


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
