"""One writer at a time, and no dead one is waited for."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store import lock, locks
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


def test_a_lock_where_this_user_may_not_write_is_refused_with_the_remedy(tmp_path, monkeypatch):
    def refused(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(locks.os, "open", refused)
    with pytest.raises(StoreError, match=r"no write permission[\s\S]*give this user write permission"):
        lock(tmp_path / "lock", "mine").__enter__()


@pytest.fixture
def of_another_host(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.05)
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "purpose": "training"}))
    return path


def set_heartbeat(path, ago_s):
    os.utime(path, (time.time() - ago_s, time.time() - ago_s))


def test_a_lock_of_another_host_counts_until_its_heart_stops(of_another_host, caplog):
    with (
        pytest.raises(StoreError, match=r"training, process 1 on elsewhere, last heartbeat at .* UTC, \d s ago"),
        lock(of_another_host, "mine"),
    ):
        pass

    set_heartbeat(of_another_host, STALE_S + 1)
    with lock(of_another_host, "mine"):
        pass
    assert "taken over from training, process 1 on elsewhere" in caplog.text


def test_a_heartbeat_that_looks_old_by_another_clock_counts_while_it_beats(of_another_host, monkeypatch):
    """The other host's clock is an hour behind, or this one was set forward."""
    stopped = threading.Event()

    def beat():
        while not stopped.wait(0.02):
            set_heartbeat(of_another_host, 3600)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        assert not watched(of_another_host, 0.5).abandoned()
    finally:
        stopped.set()
        beating.join()
    assert watched(of_another_host, 0.5).abandoned()


def watched(path, seconds):
    watch, end = locks._Watch(path), time.monotonic() + seconds
    while not watch.abandoned() and time.monotonic() < end:
        time.sleep(0.01)
    return watch


def test_a_heartbeat_of_the_future_ends_by_the_clock_of_who_waits(of_another_host, monkeypatch):
    """The clock was set back: the lock would not grow old for hours."""
    set_heartbeat(of_another_host, -7200)
    with pytest.raises(StoreError, match="ahead of this machine's clock"), lock(of_another_host, "mine"):
        pass

    monkeypatch.setattr(locks, "STALE_S", 0.2)
    with lock(of_another_host, "mine", wait_s=5):
        pass


def test_a_live_process_of_this_host_keeps_its_lock_however_old_its_heartbeat(tmp_path):
    """It was stopped for a while, or the clock was set forward."""
    path = tmp_path / "lock"
    held = {"host": socket.gethostname(), "pid": os.getpid(), "purpose": "training"}
    path.write_text(json.dumps(held))
    set_heartbeat(path, 7 * 86400)

    with pytest.raises(StoreError, match="training"), lock(path, "mine"):
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
