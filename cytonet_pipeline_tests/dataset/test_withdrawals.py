"""One section can be withdrawn without a table of all the others, and a withdrawal is never lost in silence."""

import os
import stat
import threading
import time

import pytest

from cytonet_pipeline.dataset.changes import walk_files
from cytonet_pipeline.dataset.withdrawals import Withdrawal, add_withdrawals, read_withdrawals, withdrawals_path
from cytonet_pipeline.errors import ConfigurationError, DataFault

TORN = Withdrawal("0020", "torn at mounting", "Ada", "2026-11-28")


@pytest.fixture
def path(tiny):
    return withdrawals_path(tiny.root, "B01")


def test_a_withdrawn_section_leaves_the_others_in_discovery_and_in_a_table(tiny, read, path):
    add_withdrawals(path, [TORN])
    for described in ("by name", "by table"):
        if described == "by table":
            tiny.write_table(tiny.table_rows())
        brain = read()

        assert [s.status for s in brain.sections] == ["ok", "withdrawn", "ok"], described
        assert brain.sections[1].reason == "torn at mounting (by Ada, 2026-11-28)"
        assert brain.problems == ()


def test_it_is_part_of_what_the_brain_is_made_from(read, path):
    """Else the sensor would not see it, and a store of before the withdrawal would count as current."""
    before = read().fingerprint()
    add_withdrawals(path, [TORN])
    withdrawn = read().fingerprint()
    path.unlink()

    assert withdrawn != before
    assert read().fingerprint() == before


def test_samples_are_accepted_with_their_prefix_and_without(read, path):
    path.write_text("sample_id\n0010\nsample-0030\n")

    assert [s.status for s in read().sections] == ["withdrawn", "ok", "withdrawn"]
    assert "no reason given" in read().sections[0].reason


def test_a_row_that_names_no_section_is_a_problem_with_names_near_it(read, path):
    """A misspelt withdrawal would leave the section in every training set."""
    add_withdrawals(path, [Withdrawal("020", "torn")])

    brain = read()

    assert [s.status for s in brain.sections] == ["ok"] * 3
    assert any("020" in problem and "near it: 0020" in problem for problem in brain.problems)


@pytest.mark.parametrize("text", ["", "\0", "sample\treason\n0020\ttorn\n", "sample_id\treason\nn/a\ttorn\n"])
def test_no_section_is_used_while_the_file_cannot_be_read(text, read, path):
    """Any of them may be the withdrawn one."""
    path.write_text(text)

    brain = read()

    assert {s.status for s in brain.sections} == {"rejected"}
    assert any(path.name in problem for problem in brain.problems)


def test_appending_keeps_what_people_wrote(path):
    """The file may have columns of its own, another order, and no newline at its end."""
    path.write_text("date\tsample_id\tslide box\treason\tby\n2020-01-01\tsample-0010\t7\told\tn/a")

    add_withdrawals(path, [TORN])

    lines = path.read_text().splitlines()
    assert lines[1] == "2020-01-01\tsample-0010\t7\told\tn/a"
    assert lines[2] == "2026-11-28\tsample-0020\tn/a\ttorn at mounting\tAda"
    assert read_withdrawals(path)[1] == TORN


def test_a_reason_with_tabs_and_lines_stays_one_cell(path):
    add_withdrawals(path, [Withdrawal("0020", 'two\tcells "and"\nlines')])

    assert [w.reason for w in read_withdrawals(path)] == ['two cells "and" lines']


def test_people_who_withdraw_at_the_same_time_lose_nothing(path):
    threads = [threading.Thread(target=add_withdrawals, args=(path, [Withdrawal(f"{n:04}", "x")])) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {w.sample for w in read_withdrawals(path)} == {"0000", "0001", "0002", "0003"}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_that_cannot_be_read_is_not_added_to(path):
    path.write_text("sample\n0010\n")

    with pytest.raises(DataFault, match="sample_id"):
        add_withdrawals(path, [TORN])
    assert path.read_text() == "sample\n0010\n"


def test_in_a_data_set_that_cannot_be_written_the_row_is_handed_to_the_reader(path):
    path.parent.rmdir()
    path.parent.write_text("a file in the place of the folder, so that root cannot write there either")

    with pytest.raises(ConfigurationError) as error:
        add_withdrawals(path, [TORN])
    assert "sample-0020\ttorn at mounting\tAda\t2026-11-28" in str(error.value)
    assert "nothing is withdrawn" in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named(path):
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            add_withdrawals(path, [TORN])
    finally:
        path.parent.chmod(stat.S_IRWXU)


def test_a_withdrawal_does_not_start_the_quiet_time_again(tiny, path):
    """It must take effect at once; other files of the same folder still count."""
    then = time.time() - 86400
    for place, _, names in os.walk(tiny.root):
        for name in ("", *names):
            os.utime(os.path.join(place, name), (then, then))
    add_withdrawals(path, [TORN])
    assert walk_files(tiny.root, "B01").last_change == pytest.approx(then)

    tiny.write_table(tiny.table_rows())
    assert walk_files(tiny.root, "B01").last_change > then + 1000
