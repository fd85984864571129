"""Messages of a process that trains, read by a run that may not be the one that started it."""

import json

import dagster as dg

from cytonet_pipeline.defs.training.messages import KeptMessages


class Handler:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def handle_message(self, message) -> None:
        self.heard.append(message["method"])


def line(method: str, **params) -> str:
    return json.dumps({"__dagster_pipes_version": "0.1", "method": method, "params": params}) + "\n"


def test_what_an_earlier_run_has_left_is_read_and_kept(tmp_path):
    path = tmp_path / "messages.jsonl"
    path.write_text(line("opened") + line("log"))
    handler = Handler()

    with KeptMessages(path).read_messages(handler):
        pass

    assert handler.heard == ["opened", "log"]
    assert path.read_text() == line("opened") + line("log")


def test_a_requeued_training_is_one_connection(tmp_path):
    """Dagster warns of every message that follows a `closed`."""
    path = tmp_path / "messages.jsonl"
    handler = Handler()

    with KeptMessages(path).read_messages(handler):
        path.write_text((line("opened") + line("log") + line("closed")) * 2)

    assert handler.heard == ["opened", "log", "log", "closed"]


def test_a_line_that_is_half_there_waits_and_a_torn_one_is_passed_over(tmp_path):
    path = tmp_path / "messages.jsonl"
    handler = Handler()
    reader = KeptMessages(path)

    with reader.read_messages(handler):
        path.write_text(line("opened")[:20])
        reader.pass_on()
        assert handler.heard == []
        path.write_text(line("opened") + '{"method": "lo\n' + line("log"))

    assert handler.heard == ["opened", "log"]


def test_dagster_takes_it_for_one_of_its_own_readers(tmp_path):
    """Whether it opened is asked of Dagster's session, which has a handler of its own."""
    path = tmp_path / "messages.jsonl"
    heard = []

    @dg.op
    def follow(context: dg.OpExecutionContext):
        reader = KeptMessages(path)
        with dg.open_pipes_session(context, dg.PipesEnvContextInjector(), reader) as session:
            path.write_text(line("opened", extras={}) + line("report_custom_message", payload=7) + line("closed"))
            reader.pass_on()
        heard.extend(session.get_custom_messages())
        yield dg.Output(None)

    @dg.job
    def job():
        follow()

    assert job.execute_in_process().success
    assert heard == [7]
