"""What Slurm's commands say beside their answers: that nobody answers, that a job is refused, and what to do then."""

from cytonet_pipeline.cluster.transport import Finished

# How Slurm's commands say that they reached nobody; anything else that they say is an answer.
_OUTAGES = (
    "unable to contact slurm controller",
    "connect failure",
    "connection refused",
    "connection timed out",
    "socket timed out",
    "zero bytes were transmitted",
    "temporarily unable",
    "persistinit",
    "problem talking to the database",
    "could not establish a configuration source",
    "unexpected message received",
    "protocol authentication error",
    "munge",
)
NO_ACCOUNTING = "accounting storage is disabled"
UNKNOWN_JOB = "invalid job id"


def nobody_answered(ran: Finished) -> bool:
    """Whether a command reached no daemon; whatever it was about may still hold, or have happened."""
    said = (ran.out + ran.err).lower()
    return any(words in said for words in _OUTAGES)


def words_of(ran: Finished) -> str:
    """Slurm's own words, on one line."""
    lines = [line.strip() for line in (ran.err or ran.out).splitlines()]
    told = [line.partition("error: ")[2] or line for line in lines if line and not line.startswith("Try ")]
    return "; ".join(told).rstrip(".") or f"exit code {ran.code} without a word"


def remedy_for(words: str) -> str:
    """What a person can do about a refusal."""
    said = words.lower()
    if "command not found" in said or "no such file" in said:
        return "run this where Slurm's commands are, or set `transport: ssh` and `host` in the profile"
    for word, key in (("account", "account"), ("partition", "partition"), ("qos", "directives: {qos: …}")):
        if word in said:
            return f"mend `{key}` in the profile; `sinfo` and `sacctmgr show assoc user=$USER` list what there is"
    if "unrecognized option" in said or "invalid option" in said:
        return "mend `directives` in the profile; `man sbatch` lists the options that this Slurm knows"
    return "mend the profile; docs/slurm.md lists every key"
