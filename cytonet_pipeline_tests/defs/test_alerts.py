"""A failed run says what to do: in its own log, and by webhook or mail to real servers on this machine."""

import errno
import http.server
import json
import socketserver
import threading

import dagster as dg
import pytest

from cytonet_pipeline.defs.alerts import report_failures, report_of, send
from cytonet_pipeline.defs.failures import failures_explained

CAUSE = "sub-B07: no transform to MNIColin27.\n  to fix      put the transform there"
REPORT = report_of("ingest_brain", "B07", "0123", CAUSE)


class Servers:
    """A web server and a mail server that keep what they are sent."""

    def __init__(self):
        self.posts, self.mails, self.status = [], [], 200
        outer = self

        class Web(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posts.append((self.path, self.headers["Content-Type"], json.loads(body)))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        class Mail(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"220 ready\r\n")
                lines, reading = [], False
                for line in self.rfile:
                    if reading and line != b".\r\n":
                        lines.append(line.decode())
                        continue
                    if reading:
                        outer.mails.append("".join(lines))
                    reading = line.upper().startswith(b"DATA")
                    if line.upper().startswith(b"QUIT"):
                        self.wfile.write(b"221 bye\r\n")
                        return
                    self.wfile.write(b"354 go on\r\n" if reading else b"250 ok\r\n")

        self.servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)]
        self.servers.append(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail))
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()

    @property
    def environment(self):
        web, mail = (server.server_address[1] for server in self.servers)
        return {
            "CYTONET_WEBHOOK": f"http://127.0.0.1:{web}/hooks/secret-token",
            "CYTONET_MAIL_TO": "ada@example.org, bob@example.org",
            "CYTONET_MAIL_FROM": "cytonet@example.org",
            "CYTONET_SMTP_HOST": "127.0.0.1",
            "CYTONET_SMTP_PORT": str(mail),
            "CYTONET_SMTP_SECURITY": "none",
        }


@pytest.fixture
def servers():
    made = Servers()
    yield made
    for server in made.servers:
        server.shutdown()
        server.server_close()


def test_a_report_reaches_webhook_and_mailbox(servers):
    assert send(REPORT, servers.environment) == []

    ((path, content_type, content),) = servers.posts
    assert (path, content_type) == ("/hooks/secret-token", "application/json")
    assert content["cause"] == CAUSE
    assert content["to_do"].startswith("follow the line `to fix` above; then cytonet run --brains B07")
    assert content["text"].startswith("cytonet: ingest_brain of B07 failed\n\nsub-B07: no transform")
    (mail,) = servers.mails
    assert "Subject: cytonet: ingest_brain of B07 failed" in mail
    assert "To: ada@example.org, bob@example.org" in mail
    assert "put the transform there" in mail


def test_nothing_is_sent_unless_it_is_asked_for(servers):
    assert send(REPORT, {}) == []
    assert servers.posts == servers.mails == []


def test_what_cannot_be_sent_is_said_without_secrets_and_keeps_nothing_else_from_being_sent(servers):
    servers.status = 500
    environment = {**servers.environment, "CYTONET_SMTP_PASSWORD": "hidden"}

    (problem,) = send(REPORT, environment)

    assert problem == "CYTONET_WEBHOOK: the report of run 0123 could not be sent (HTTPError 500)"
    assert len(servers.mails) == 1
    closed = {**environment, "CYTONET_WEBHOOK": "http://127.0.0.1:1/secret-token", "CYTONET_SMTP_PORT": "1"}
    problems = send(REPORT, closed)
    assert len(problems) == 2
    assert not any("secret" in text or "hidden" in text for text in problems)
    assert len(send(REPORT, {"CYTONET_WEBHOOK": "file:///etc/passwd"})) == 1


def failed_run(instance, error):
    @dg.op
    def break_down():
        with failures_explained():
            raise error

    @dg.job
    def ingest_brain():
        break_down()

    ran = ingest_brain.execute_in_process(instance=instance, raise_on_error=False, tags={"dagster/partition": "B07"})
    return ran, ran.get_run_failure_event()


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free space where CYTONET_STORE"),
        (PermissionError(errno.EACCES, "Permission denied", "/store"), "give the user of this process the right"),
        (OSError("a stale handle"), "look at the file system"),
        (MemoryError(), "give it more memory"),
        (ValueError("a bug"), "look at the run's log, and at cytonet doctor"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_failed_run_leaves_what_to_do_in_its_log(servers, monkeypatch, error, remedy):
    for name, value in servers.environment.items():
        monkeypatch.setenv(name, value)
    with dg.instance_for_test() as instance:
        ran, event = failed_run(instance, error)
        context = dg.build_run_status_sensor_context(
            "report_failures", event, instance, instance.get_run_by_id(ran.run_id)
        ).for_run_failure()

        report_failures(context)

        logged = [entry.message for entry in instance.all_logs(ran.run_id)]
        assert any(message.startswith("What to do: ") for message in logged)
        assert instance.get_run_by_id(ran.run_id).status is dg.DagsterRunStatus.FAILURE
    content = servers.posts[0][2]
    assert remedy in content["text"]
    assert content["partition"] == "B07"


def test_a_hook_that_fails_fails_no_tick(monkeypatch):
    monkeypatch.setenv("CYTONET_WEBHOOK", "http://127.0.0.1:1/nobody")
    with dg.instance_for_test() as instance:
        ran, event = failed_run(instance, ValueError("a bug"))
        context = dg.build_run_status_sensor_context(
            "report_failures", event, instance, instance.get_run_by_id(ran.run_id)
        ).for_run_failure()

        report_failures(context)


def test_the_sensor_is_off_until_somebody_starts_it():
    assert report_failures.default_status is dg.DefaultSensorStatus.STOPPED
