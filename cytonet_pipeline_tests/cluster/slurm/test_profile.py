"""What a cluster profile may contain, and how a fault in it is reported."""

import re

import pytest

from cytonet_pipeline.cluster.slurm.profile import (
    ClusterProfile,
    Resources,
    StepResources,
    profile_path,
    read_profile,
    seconds_of,
)
from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline_tests.conftest import PROJECT


@pytest.fixture
def read(tmp_path):
    def read(text: str) -> ClusterProfile:
        path = tmp_path / "site.yaml"
        path.write_text(text)
        return read_profile(path)

    return read


def test_an_empty_profile_is_one_node_of_the_cluster_at_hand(read):
    profile = read("# nothing\n")

    assert (profile.transport, profile.nodes, profile.partition, profile.launcher) == ("local", 1, None, ("torchrun",))


@pytest.mark.parametrize("name", ["slurm.yaml", "jureca.yaml"])
def test_the_shipped_profiles_are_sound(name):
    assert read_profile(PROJECT / "deploy" / name).sends("encoder")


def test_what_the_shipped_profile_calls_a_default_is_one(read):
    """Its comments show all keys with their defaults; none may be missing or misspelt."""
    text = (PROJECT / "deploy" / "slurm.yaml").read_text()
    keys = set(re.findall(r"^(?:# )?([a-z_]+):", text, re.MULTILINE))

    assert keys == set(ClusterProfile.model_fields)


@pytest.mark.parametrize("key", [*ClusterProfile.model_fields])
def test_every_key_is_documented(key):
    assert f"`{key}`" in (PROJECT / "docs" / "slurm.md").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node: 2", "node: misspelt, no such key"),
        ("nodes: 0", "nodes: Input should be greater than or equal to 1"),
        ("walltime: soon", "'soon' is not a time"),
        ("transport: ssh", "needs `host`"),
        ("host: jureca", "only read with `transport: ssh`"),
        ("directives: {output: x}", "output is set by the job script itself"),
        ("directives: {gpus_per_node: 4}", "gpus_per_node is set by the job script itself"),
        ("directives: {--qos: high}", "'--qos' is not the long name of an sbatch option"),
        ("directives: {q: high}", "'q' is not the long name of an sbatch option"),
        ("walltime: 5", "signal_before_s 300 leaves nothing of the walltime 5 of encoder"),
        ("send: {training: {}}", "send.training"),
        ("send: {patch_embeddings: {nodes: 4}}", "nodes: misspelt, no such key"),
        ("send: {patch_index: {wall: 1}}", "misspelt, no such key"),
        ("launcher: []", "launcher"),
        ("nodes: [", "not valid YAML"),
        ("nodes: 1\nnodes: 2", "line 2: key 'nodes' is already given in line 1"),
        ("account: 1234", "account: Input should be a valid string; YAML reads 1234 as a number: write it in quotes"),
        ("nodes: true", "nodes: true is not a number"),
    ],
)
def test_a_fault_is_reported_with_file_and_key(read, text, message):
    with pytest.raises(ConfigurationError, match=re.escape(message)) as fault:
        read(text)
    assert "site.yaml" in str(fault.value)


def test_all_faults_are_reported_at_once(read):
    with pytest.raises(ConfigurationError, match="2 faults"):
        read("node: 2\nwalltime: soon\n")


def test_the_error_of_a_missing_profile_names_its_variable(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read") as fault:
        read_profile(tmp_path / "none.yaml")
    assert "CYTONET_CLUSTER_PROFILE" in fault.value.to_fix


def test_the_environment_names_the_profile(tmp_path):
    assert profile_path({"CYTONET_CLUSTER_PROFILE": str(tmp_path / "x.yaml")}) == tmp_path / "x.yaml"
    assert profile_path({}) == PROJECT / "deploy" / "slurm.yaml"


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("24:00:00", 86400),
        ("01:02:03", 3723),
        ("1-0", 86400),
        ("2-03:04", 183840),
        ("1-02:03:04", 93784),
    ],
)
def test_times_mean_what_slurm_means(walltime, seconds):
    """The forms of sbatch(1): two numbers are minutes and seconds, but hours and minutes after days."""
    assert seconds_of(walltime) == seconds


def test_times_without_quotes_are_times(read):
    """YAML 1.1 reads 24:00:00 as 86400, which sbatch would take for minutes: two months."""
    profile = read("walltime: 24:00:00\ndirectives: {time-min: 10:00:00, mail-type: no, exclusive: true, nice: 100}\n")

    assert profile.walltime == "24:00:00"
    assert profile.directives == {"time-min": "10:00:00", "mail-type": "no", "exclusive": True, "nice": 100}


def test_a_sent_step_inherits_what_it_does_not_set(read):
    profile = read(
        "partition: gpu\naccount: brains\nnodes: 4\ngpus_per_node: 4\ndirectives: {constraint: a100}\n"
        "send: {section_scans: {gpus_per_node: 0, partition: cpu, walltime: 02:00:00}, patch_index: {}}\n"
    )

    assert profile.sends("encoder")
    assert profile.sends("section_scans")
    assert not profile.sends("patch_embeddings")
    scans = profile.resources("section_scans")
    assert (scans.partition, scans.account, scans.nodes, scans.gpus_per_node) == ("cpu", "brains", 1, 0)
    assert (scans.walltime_s, scans.directives) == (7200, {"constraint": "a100"})
    index = profile.resources("patch_index")
    assert (index.nodes, index.partition, index.gpus_per_node) == (1, "gpu", 4)
    assert profile.resources().nodes == 4


def test_a_step_can_differ_in_every_resource_but_nodes():
    """Steps beside training are one process each; further nodes would be idle."""
    assert set(StepResources.model_fields) == set(Resources.model_fields) - {"nodes"}
