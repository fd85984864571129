"""Telling people that a run has failed: a note in the run's log, and a webhook or a mail where they are set up.

The sensor `report_failures` looks at failed runs of this code location; it is off until somebody starts it. Where to
send is read from the environment when it ticks, secrets among it, so that none stands in a file or in Dagster's
database. A message that cannot be sent is logged by the tick and changes nothing about any run.
"""

import json
import os
import smtplib
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage

import dagster as dg

from cytonet_pipeline.defs.dagster_internals import note_in_log, partition_of

_TIMEOUT_S = 10.0
_SECURITY = {"starttls": 587, "ssl": 465, "none": 25}
_TO_FIX = "to fix"


@dataclass(frozen=True)
class FailureReport:
    """A failed run, in words.

    Attributes
    ----------
    job, partition, run_id : str
    cause : str
        The message of the step that failed first.
    to_do : str
        What to do next.
    """

    job: str
    partition: str
    run_id: str
    cause: str
    to_do: str

    @property
    def title(self) -> str:
        """One line."""
        return f"cytonet: {self.job}{f' of {self.partition}' if self.partition else ''} failed"

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.title}\n\n{self.cause}\n\nWhat to do: {self.to_do}\nRun {self.run_id}"


@dg.run_failure_sensor(
    name="report_failures",
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    description="Notes in the log of each failed run what to do, and sends it to CYTONET_WEBHOOK (JSON) and "
    "CYTONET_MAIL_TO (mail), where these are set.",
)
def report_failures(context: dg.RunFailureSensorContext) -> None:
    """Report one failed run; nothing raised here reaches it."""
    run = context.dagster_run
    causes = [event.event_specific_data for event in context.get_step_failure_events()]
    texts = [text for text in map(_text_of, causes) if text]
    cause = texts[0] if texts else context.failure_event.message
    report = report_of(run.job_name, partition_of(run), run.run_id, cause)
    note_in_log(context.instance, run, f"What to do: {report.to_do}")
    for problem in send(report, os.environ):
        context.log.warning(problem)


def report_of(job: str, partition: str, run_id: str, cause: str | None) -> FailureReport:
    """Put a failure into words, with what to do: as its message says, else what helps after any failure."""
    cause = (cause or "the run ended without a message; its log has the last step").strip()
    again = {
        "ingest_brain": f"cytonet run --brains {partition}, or wait: the sensor new_brains requests it again after a "
        "pause",
        "train_encoder": f"cytonet run --encoders {partition}; training goes on from its last checkpoint",
        "evaluate_encoder": f"cytonet run --encoders {partition}",
    }.get(job, "cytonet run")
    first = "follow the line `to fix` above" if _TO_FIX in cause else "look at the run's log, and at cytonet doctor"
    return FailureReport(job, partition, run_id, cause, f"{first}; then {again}. What was finished is kept.")


def send(report: FailureReport, environment: Mapping[str, str]) -> list[str]:
    """Send a report wherever the environment says.

    Returns
    -------
    list of str
        What could not be sent, and why; secrets are not in it.
    """
    ways: dict[str, Callable[[FailureReport, Mapping[str, str]], None]] = {
        "CYTONET_WEBHOOK": _post,
        "CYTONET_MAIL_TO": _mail,
    }
    problems = []
    for variable, way in ways.items():
        if not environment.get(variable):
            continue
        try:
            way(report, environment)
        except Exception as error:  # Whatever goes wrong here must not add to what has gone wrong there.
            # An address may hold a token: the kind of error is named, and not its text.
            what = f"{type(error).__name__}{f' {error.code}' if isinstance(error, urllib.request.HTTPError) else ''}"
            problems.append(f"{variable}: the report of run {report.run_id} could not be sent ({what})")
    return problems


def _post(report: FailureReport, environment: Mapping[str, str]) -> None:
    # `text` is what Slack, Mattermost and Teams show of a message.
    content = {
        "text": report.text,
        "job": report.job,
        "partition": report.partition,
        "run_id": report.run_id,
        "cause": report.cause,
        "to_do": report.to_do,
    }
    url = environment["CYTONET_WEBHOOK"]
    if not url.startswith(("http://", "https://")):
        raise ValueError("not an address of the web")
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
        pass


def _mail(report: FailureReport, environment: Mapping[str, str]) -> None:
    security = environment.get("CYTONET_SMTP_SECURITY") or "starttls"
    host, port = environment.get("CYTONET_SMTP_HOST") or "localhost", environment.get("CYTONET_SMTP_PORT")
    message = EmailMessage()
    message["Subject"] = report.title
    message["To"] = environment["CYTONET_MAIL_TO"]
    message["From"] = environment.get("CYTONET_MAIL_FROM") or "cytonet@localhost"
    message.set_content(report.text)
    connect = smtplib.SMTP_SSL if security == "ssl" else smtplib.SMTP
    with connect(host, int(port or _SECURITY[security]), timeout=_TIMEOUT_S) as server:
        if security == "starttls":
            server.starttls()
        if user := environment.get("CYTONET_SMTP_USER"):
            server.login(user, environment.get("CYTONET_SMTP_PASSWORD") or "")
        server.send_message(message)


def _text_of(data: object) -> str:
    """Return the message of a step's failure: that of a `dg.Failure`, else of the exception behind it."""
    given, error = getattr(data, "user_failure_data", None), getattr(data, "error", None)
    if given is not None and given.description:
        return str(given.description)
    return "" if error is None else str((error.cause or error).message).strip()
