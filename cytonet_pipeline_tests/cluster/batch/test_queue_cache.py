"""Several processes that follow one job each, and one question to the queue."""

import threading
import time

import pytest

from cytonet_pipeline.cluster.attempt import read_json
from cytonet_pipeline.cluster.batch.queue_cache import QueueCache
from cytonet_pipeline.errors import TransportDown
from cytonet_pipeline.store import write_json


class Queue:
    """Queue that records which jobs it was asked about."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, ids):
        self.asked.append(sorted(ids))
        time.sleep(0.05)
        return " ".join(sorted(ids))


def test_eight_followers_of_one_job_each_need_one_question(tmp_path):
    queue = Queue()
    for number in range(8):
        QueueCache(tmp_path, "site", fresh_s=0.0).answer([str(number)], queue)
    jobs = [str(number) for number in range(8)]
    assert queue.asked[-1] == jobs
    queue.asked.clear()
    (stored,) = tmp_path.glob("*.queue")
    write_json(stored, {**read_json(stored), "asked": time.time() - 3600})
    answers = []

    def follow(job):
        answers.append(QueueCache(tmp_path, "site", fresh_s=30.0).answer([job], queue))

    threads = [threading.Thread(target=follow, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert queue.asked == [jobs]
    assert answers == [" ".join(jobs)] * 8


def test_a_job_without_a_stored_answer_is_asked_about_at_once(tmp_path):
    queue = Queue()
    cache = QueueCache(tmp_path, "site", fresh_s=60.0)
    cache.answer(["1"], queue)

    assert cache.answer(["2"], queue) == "1 2"


def test_clusters_do_not_share_a_cache(tmp_path):
    queue = Queue()
    QueueCache(tmp_path, "site").answer(["1"], queue)

    QueueCache(tmp_path, "another site").answer(["1"], queue)

    assert queue.asked == [["1"], ["1"]]


def test_an_outage_is_not_stored(tmp_path):
    queue = Queue()
    cache = QueueCache(tmp_path, "site", fresh_s=0.0)
    cache.answer(["1"], queue)

    def silent(ids):
        raise TransportDown("no answer.")

    with pytest.raises(TransportDown):
        cache.answer(["1"], silent)
    assert QueueCache(tmp_path, "site", fresh_s=60.0).answer(["1"], silent) == "1"


def test_a_cache_that_cannot_be_written_only_costs_questions(tmp_path):
    (tmp_path / "in the way").write_text("")
    queue = Queue()
    cache = QueueCache(tmp_path / "in the way" / "cache", "site")

    assert cache.answer(["1"], queue) == "1"
