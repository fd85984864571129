"""One writer at a time, and no dead one is waited for."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import lock
from cytonet_pipeline.store.locks import STALE_S


def test_a_second_holder_is_told_who_holds_it(tmp_path):
    with (
        lock(tmp_path / "lock", "training demo"),
        pytest.raises(StoreError, match="training demo"),
        lock(tmp_path / "lock", "another"),
    ):
        pass


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    """A killed training must not keep the next one out."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": socket.gethostname(), "pid": gone.pid, "purpose": "was killed"}))

    with lock(path, "the next one"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_the_lock_of_a_process_number_that_was_used_again_is_taken_over(tmp_path):
    path = tmp_path / "lock"
    held = {"host": socket.gethostname(), "pid": os.getpid(), "purpose": "was killed"}
    path.write_text(json.dumps({**held, "born": "1"}))

    with lock(path, "the next one"):
        assert json.loads(path.read_text())["born"] != "1"


def test_a_lock_of_another_host_counts_until_its_heart_stops(tmp_path):
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "purpose": "training"}))
    with pytest.raises(StoreError, match="elsewhere"), lock(path, "mine"):
        pass

    past = time.time() - STALE_S - 1
    os.utime(path, (past, past))
    with lock(path, "mine"):
        pass


def test_of_many_that_find_a_dead_holders_lock_one_gets_it_at_a_time(tmp_path):
    """Breaking it twice would remove the lock that another process took in between."""
    path = tmp_path / "lock"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    inside, most = [], []

    def work(start):
        start.wait()
        with lock(path, "one of many", wait_s=30):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.002)
            inside.pop()

    for _ in range(3):
        path.write_text(json.dumps({"host": socket.gethostname(), "pid": gone.pid, "purpose": "was killed"}))
        start = threading.Barrier(8)
        threads = [threading.Thread(target=work, args=(start,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert most == [1] * 24
    assert list(tmp_path.iterdir()) == []
