"""Processes that are alive, and process numbers that were used again."""

import os

from cytonet_pipeline.store.processes import birth_of, is_alive


def test_a_used_process_number_is_another_process():
    record = {"host": os.uname().nodename, "born": birth_of(os.getpid())}

    assert is_alive(os.getpid(), record)
    assert not is_alive(os.getpid(), {**record, "born": "1"})
    assert not is_alive(os.getpid(), {**record, "host": "elsewhere"})
    assert not is_alive(2**22 + 1, record)
