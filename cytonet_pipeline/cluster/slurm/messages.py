"""Messages of Slurm's commands beside their output: outages and refusals, with remedies."""

from cytonet_pipeline.cluster.batch.transport import Finished

# How Slurm's commands report that they reached no daemon; any other message is an answer.
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


def is_outage(ran: Finished) -> bool:
    """Tell whether a command reached no daemon; its effect may have happened all the same."""
    output = (ran.out + ran.err).lower()
    return any(text in output for text in _OUTAGES)


def message_of(ran: Finished) -> str:
    """Return Slurm's own message, on one line."""
    lines = [line.strip() for line in (ran.err or ran.out).splitlines()]
    messages = [line.partition("error: ")[2] or line for line in lines if line and not line.startswith("Try ")]
    return "; ".join(messages).rstrip(".") or f"exit code {ran.code} without a message"


def remedy_for(message: str) -> str:
    """Say what a person can do about a refusal."""
    text = message.lower()
    if "command not found" in text or "no such file" in text:
        return "run this where Slurm's commands are, or set `transport: ssh` and `host` in the profile"
    for word, key in (("account", "account"), ("partition", "partition"), ("qos", "directives: {qos: …}")):
        if word in text:
            return f"correct `{key}` in the profile; `sinfo` and `sacctmgr show assoc user=$USER` list the choices"
    if "unrecognized option" in text or "invalid option" in text:
        return "correct `directives` in the profile; `man sbatch` lists the options of this version of Slurm"
    return "correct the profile; docs/slurm.md lists every key"
