"""Output of several releases of Slurm for the same ends of jobs, with and without accounting."""

import pytest

from cytonet_pipeline.cluster.batch.job_state import Phase
from cytonet_pipeline.cluster.slurm.output import (
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    parse_sacct,
    parse_scontrol,
    parse_squeue,
)

# 22.05 prints the exit code of a job as the raw wait status; names may hold the separator.
SQUEUE_22 = """\
6|CANCELLED|0|0|Priority||1|0:00|cpu=1,mem=2000M,node=1,billing=1|N/A|called off
1|COMPLETED|0|0|None|n[1-2]|2|0:01|cpu=2,node=2,billing=2|gres:gpu:2|cytonet-a
2|FAILED|768|0|NonZeroExitCode|n1|1|2-03:04:05|cpu=1,node=1,billing=1,gres/gpu=4|gres:gpu:4|with | a bar
3|FAILED|9|0|JobLaunchFailure|n1|1|0:00|cpu=1,node=1,billing=1|N/A|sig
7|PENDING|0|1|BeginTime||2|0:00|cpu=2,mem=4000M,node=2,billing=2|gres:gpu:2|again
8|PENDING|0|0|ReqNodeNotAvail, UnavailableNodes:jrc0[100-103]||4|0:00|cpu=512|gres:gpu:4|waits
4|RUNNING|0|0|None|n1|1|INVALID|cpu=1,node=1,billing=1|N/A|runs
5|COMPLETING|0|0|None|n1|1|1:40|cpu=1,node=1,billing=1|N/A|ends
"""
# 24.05: gres/gpu instead of gres:gpu, and typed GPUs counted twice.
SQUEUE_24 = """\
2000123|OUT_OF_MEMORY|125|0|OutOfMemory|jwb[0013,0021]|2|1:02:03|cpu=96,mem=1000G,node=2,gres/gpu=8,gres/gpu:a100=8|gres/gpu:4|oom
2000124|CONFIGURING|0|0|None|jwb0013|1|0:12|cpu=48,node=1,gres/gpu:a100=4|gres/gpu:4|boots
2000125|BOOT_FAIL|1|0|BootFailed|jwb0013|1|0:00|cpu=48|N/A|boot
2000126|REVOKED|0|0|None||1|0:00|cpu=48|N/A|elsewhere
2000127|REQUEUE_HOLD|256|3|job_requeued_in_held_state||1|0:00|cpu=48|N/A|held
2000128|SIGNALING|0|0|None|jwb0013|1|0:44|cpu=48|N/A|warned
"""
# sacct of 20.11 to 24.05, with steps; with duplicates shown, each incarnation of a requeued job has a line.
SACCT = """\
41|COMPLETED|0:0|3600|jrc[0436-0437]|2|billing=256,cpu=256,gres/gpu=8,mem=900G,node=2|None|cytonet-b
41.batch|COMPLETED|0:0|3600|jrc0436|1|cpu=128,mem=450G,node=1||batch
41.extern|COMPLETED|0:0|3600|jrc[0436-0437]|2|billing=256,cpu=256,gres/gpu=8,mem=900G,node=2||extern
41.0|COMPLETED|0:0|3598|jrc[0436-0437]|2|cpu=256,gres/gpu=8,mem=900G,node=2||torchrun
42|OUT_OF_MEMORY|0:125|77|n1|1|cpu=1,mem=2G,node=1|None|oom
42.batch|OUT_OF_MEMORY|0:125|77|n1|1|cpu=1,mem=2G,node=1||batch
43|FAILED|1:0|77|n[1-2]|2|cpu=2,mem=2G,node=2|NonZeroExitCode|step-oom
43.batch|FAILED|1:0|77|n1|1|cpu=1,mem=1G,node=1||batch
43.extern|COMPLETED|0:0|77|n[1-2]|2|cpu=2,mem=2G,node=2||extern
43.0|OUT_OF_MEMORY|0:125|70|n[1-2]|2|cpu=2,mem=2G,node=2||torchrun
44|CANCELLED by 1000|0:0|0|None assigned|4||Priority|waited
45|CANCELLED by 1000|0:15|60|n1|1|cpu=1,node=1|None|ran
45.batch|CANCELLED|0:15|61|n1|1|cpu=1,node=1||batch
46|NODE_FAIL|1:0|900|n2|1|cpu=1,node=1|NodeDown|lost
47|PREEMPTED|0:0|300|n2|1|cpu=1,node=1|None|low
47|COMPLETED|0:0|1200|n1|1|cpu=1,node=1|None|low
48|TIMEOUT|0:0|7215|n1|1|cpu=1,node=1|TimeLimit|slow
48.batch|CANCELLED|0:15|7216|n1|1|cpu=1,node=1||batch
49|DEADLINE|0:0|0|None assigned|1||DeadLine|late
50|BOOT_FAIL|0:0|5|n1|1|cpu=1,node=1|BootFailed|boot
51|RUNNING|0:0|5|n1|1|cpu=1,node=1|None|runs
51.batch|RUNNING|0:0|5|n1|1|cpu=1,node=1||batch
52|COMPLETED|0:0|50|n1|1|cpu=1,node=1|None|recovered
52.0|OUT_OF_MEMORY|0:125|50|n1|1|cpu=1,node=1||helper
53|CANCELLED+|0:0|1|n1|1|cpu=1,node=1|None|short
54|REQUEUED|0:0|1|n1|1|cpu=1,node=1|None|again
"""
SCONTROL = (
    "JobId=1 JobName=two words UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=429 Nice=0 Account=(null) "
    "JobState=FAILED Reason=NonZeroExitCode Dependency=(null) Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=3:0 "
    "RunTime=1-00:00:01 TimeLimit=365-00:00:00 Partition=main NodeList=n[1-2] BatchHost=n1 NumNodes=2 NumCPUs=2 "
    "CPUs/Task=1 ReqB:S:C:T=0:0:*:* TRES=cpu=2,node=2,billing=2 Command=(null) WorkDir=/a folder/with blanks "
    "StdErr=/dev/null Power= TresPerNode=gres:gpu:2 \n"
    "JobId=2 JobName=b JobState=PENDING Reason=Resources Restarts=0 ExitCode=0:0 RunTime=00:00:00 NodeList= "
    "NumNodes=2-4 ReqTRES=cpu=2,mem=4000M,node=2,billing=2,gres/gpu=4 AllocTRES=(null)\n"
)


def test_squeue_of_22_05_is_read():
    jobs = parse_squeue(SQUEUE_22)

    assert {key: job.phase for key, job in jobs.items()} == {
        "6": "CANCELLED",
        "1": "COMPLETED",
        "2": "FAILED",
        "3": "FAILED",
        "7": "PENDING",
        "8": "PENDING",
        "4": "RUNNING",
        "5": "COMPLETING",
    }
    assert (jobs["2"].exit_code, jobs["2"].signal, jobs["2"].gpus) == (3, 0, 4)
    assert jobs["2"].elapsed_s == ((2 * 24 + 3) * 60 + 4) * 60 + 5
    assert jobs["2"].name == "with | a bar"
    assert (jobs["3"].exit_code, jobs["3"].signal) == (0, 9)
    assert (jobs["1"].nodes, jobs["1"].node_count, jobs["1"].gpus) == ("n[1-2]", 2, 4)
    assert (jobs["7"].restarts, jobs["7"].reason, jobs["7"].ended) == (1, "BeginTime", False)
    assert jobs["8"].reason == "ReqNodeNotAvail, UnavailableNodes:jrc0[100-103]"
    assert (jobs["4"].elapsed_s, jobs["4"].exit_code, jobs["4"].reason) == (0, None, "")
    assert not jobs["5"].ended


def test_squeue_of_24_05_is_read():
    jobs = parse_squeue(SQUEUE_24)

    phases = {name: next(job.phase for job in jobs.values() if job.name == name) for name in ("oom", "boots", "boot")}
    assert phases == {"oom": "OUT_OF_MEMORY", "boots": "PENDING", "boot": "BOOT_FAIL"}
    assert jobs["2000123"].gpus == 8
    assert jobs["2000124"].gpus == 4
    assert jobs["2000126"].phase is Phase.UNKNOWN
    assert (jobs["2000127"].phase, jobs["2000127"].restarts) == (Phase.REQUEUED, 3)
    assert jobs["2000128"].phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("job_id", "text"),
    [
        ("41", "job 41 COMPLETED on jrc[0436-0437]"),
        ("42", "job 42 OUT_OF_MEMORY (signal 125) on n1"),
        ("43", "job 43 OUT_OF_MEMORY (NonZeroExitCode, exit code 1) on n[1-2]"),
        ("44", "job 44 CANCELLED (Priority, by user 1000)"),
        ("45", "job 45 CANCELLED (by user 1000, signal 15) on n1"),
        ("46", "job 46 NODE_FAIL (NodeDown, exit code 1) on n2"),
        ("47", "job 47 COMPLETED on n1"),
        ("48", "job 48 TIMEOUT (TimeLimit) on n1"),
        ("49", "job 49 DEADLINE (DeadLine)"),
        ("50", "job 50 BOOT_FAIL (BootFailed) on n1"),
        ("51", "job 51 RUNNING on n1"),
        ("52", "job 52 COMPLETED on n1"),
        ("53", "job 53 CANCELLED on n1"),
        ("54", "job 54 REQUEUED on n1"),
    ],
)
def test_accounting_shows_how_each_job_ended(job_id, text):
    """Steps are not jobs; but a step that ran out of memory explains the job that failed with it."""
    assert str(parse_sacct(SACCT)[job_id]) == text


def test_only_jobs_come_out_of_accounting():
    jobs = parse_sacct(SACCT)

    assert set(jobs) == {str(number) for number in range(41, 55)}
    assert (jobs["41"].gpus, jobs["41"].node_count, jobs["41"].elapsed_s) == (8, 2, 3600)


def test_a_preempted_job_that_ran_again_is_judged_by_its_last_run():
    """With duplicates, which old releases always show, sacct prints the preempted incarnation first."""
    assert parse_sacct(SACCT)["47"].phase is Phase.COMPLETED


def test_scontrol_is_read():
    jobs = parse_scontrol(SCONTROL)

    assert str(jobs["1"]) == "job 1 FAILED (NonZeroExitCode, exit code 3, restart 2) on n[1-2]"
    assert (jobs["1"].name, jobs["1"].elapsed_s, jobs["1"].gpus) == ("two words", 86401, 4)
    assert (jobs["2"].phase, jobs["2"].nodes, jobs["2"].node_count) == (Phase.PENDING, "", 2)


@pytest.mark.parametrize("parse", [parse_squeue, parse_sacct, parse_scontrol])
@pytest.mark.parametrize(
    "noise", ["", "\n\n", "slurm_load_jobs error: Invalid job id specified\n", "Last login: today\n"]
)
def test_what_is_not_a_job_is_left_out(parse, noise):
    """Login banners and warnings turn up in the output of commands over ssh."""
    assert parse(noise) == {}


def test_the_formats_ask_for_what_is_read():
    assert len(SQUEUE_FORMAT.split(",")) == 11
    assert len(SACCT_FORMAT.split(",")) == 9
