"""The profile of a site: one YAML file, read strictly, with everything that differs between clusters."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cytonet_pipeline.settings import Strict, project_file, read_strictly

Step = Literal["patch_embeddings", "section_scans", "colin27_transforms", "patch_index"]

# Set by the job script itself; with two values for one option it would be unclear which one holds.
OWN_DIRECTIVES = frozenset(
    {
        *("account", "array", "chdir", "cpus-per-task", "error", "export", "gpus", "gpus-per-node", "gres", "input"),
        *("job-name", "no-requeue", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "parsable"),
        *("partition", "requeue", "signal", "time", "wait", "wrap"),
    }
)
_FORMS_OF_TIME = "minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"


def seconds_of(walltime: str) -> int:
    """Convert a time limit, as sbatch reads it, to seconds.

    Raises
    ------
    ValueError
        Slurm would not read it.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", walltime)
    if not match:
        raise ValueError(f"{walltime!r} is not a time ({_FORMS_OF_TIME})")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _checked_walltime(given: Any) -> str:
    seconds_of(str(given))
    return str(given)


def _checked_directives(given: dict[str, Any]) -> dict[str, Any]:
    for key in given:
        if key.lstrip("-").replace("_", "-") in OWN_DIRECTIVES:
            raise ValueError(f"{key} is set by the job script itself; use the profile's own keys")
        if not re.fullmatch(r"[a-z][a-z0-9-]+", key):
            raise ValueError(f"{key!r} is not the long name of an sbatch option (no dashes in front)")
    return given


Walltime = Annotated[str, BeforeValidator(_checked_walltime)]
Directives = Annotated[dict[str, str | int | float | bool], AfterValidator(_checked_directives)]


class Resources(Strict):
    """Resources that a job requests."""

    partition: str | None = Field(None, description="default: the cluster's own")
    account: str | None = Field(None, description="default: the user's own")
    nodes: int = Field(1, ge=1)
    gpus_per_node: int = Field(0, ge=0, description="0: no GPU is requested")
    cpus_per_task: int | None = Field(None, ge=1, description="one task runs on each node; default: the cluster's own")
    walltime: Walltime = Field("01:00:00", description=_FORMS_OF_TIME)
    directives: Directives = Field({}, description="anything else: `key: value` becomes `#SBATCH --key=value`")

    @property
    def walltime_s(self) -> int:
        """The time limit in seconds."""
        return seconds_of(self.walltime)


class StepResources(Strict):
    """Resources of a step that is sent to the cluster, where they differ from the profile's own.

    Such a step is one process on one node.
    """

    partition: str | None = None
    account: str | None = None
    gpus_per_node: int | None = Field(None, ge=0)
    cpus_per_task: int | None = Field(None, ge=1)
    walltime: Walltime | None = None
    directives: Directives | None = Field(None, description="in place of the profile's")


class ClusterProfile(Resources):
    """Description of a cluster, written by a group that works there."""

    transport: Literal["local", "ssh"] = Field("local", description="ssh: Slurm's commands run on `host`")
    host: str | None = Field(None, description="name for ssh, best an alias of ~/.ssh/config")
    ssh_config: Path | None = Field(None, description="another file than ~/.ssh/config")
    slurm_prefix: tuple[str, ...] = Field((), description="words before each Slurm command, such as `env PATH=…`")
    signal_before_s: int = Field(300, ge=1, description="warning before the time limit: checkpoint, then requeue")
    launcher: tuple[str, ...] = Field(
        ("torchrun",), min_length=1, description="command that starts the ranks of a node"
    )
    setup: tuple[str, ...] = Field((), description="shell lines of the job before anything runs: modules, variables")
    python: str = Field(sys.executable, description="interpreter on the compute nodes")
    master_suffix: str = Field("", description="appended to the first node's name for the rendezvous")
    packs: str | None = Field(None, description="folder on the node's own disk for packed patches")
    send: dict[Step, StepResources] = Field({}, description="steps beside training that run on the cluster")

    @model_validator(mode="after")
    def _fits_together(self) -> "ClusterProfile":
        if self.transport == "ssh" and not self.host:
            raise ValueError("transport ssh needs `host`")
        if self.transport == "local" and self.host:
            raise ValueError("`host` is only read with `transport: ssh`")
        for step in ("encoder", *self.send):
            if self.resources(step).walltime_s <= self.signal_before_s:
                raise ValueError(
                    f"signal_before_s {self.signal_before_s} leaves nothing of the walltime "
                    f"{self.resources(step).walltime} of {step}"
                )
        return self

    def sends(self, step: str) -> bool:
        """Tell whether a step runs on the cluster; training always does."""
        return step == "encoder" or step in self.send

    def resources(self, step: str = "encoder") -> Resources:
        """Return the resources that the job of a step requests."""
        own = {name: getattr(self, name) for name in Resources.model_fields}
        if step != "encoder":
            own["nodes"] = 1
        differing = self.send.get(step)  # type: ignore[call-overload]
        return Resources(**{**own, **(differing.model_dump(exclude_none=True) if differing else {})})


def profile_path(environment: Mapping[str, str] | None = None) -> Path:
    """Return the file that `CYTONET_CLUSTER_PROFILE` names; default: `deploy/slurm.yaml`."""
    env = os.environ if environment is None else environment
    return Path(env.get("CYTONET_CLUSTER_PROFILE") or project_file("deploy/slurm.yaml")).expanduser().absolute()


def read_profile(path: Path | None = None) -> ClusterProfile:
    """Read and check a profile.

    Parameters
    ----------
    path : Path, optional
        Default: `profile_path()`.

    Raises
    ------
    ConfigurationError
        It is missing, not YAML, or has a misspelt key or an impossible value; the message names each.
    """
    return read_strictly(
        path or profile_path(),
        ClusterProfile,
        if_unreadable="set CYTONET_CLUSTER_PROFILE to a cluster profile",
        if_faulty="docs/slurm.md lists every key; compare with deploy/slurm.yaml",
        loader=_Yaml,
    )


class _Yaml(yaml.SafeLoader):
    """YAML in which 24:00:00 is text and not the number 86400, and `no` is a word and not false."""


_Yaml.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag.rpartition(":")[2] not in ("int", "float", "bool")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))
_Yaml.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Yaml.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+\.[0-9]+$"), list("-+0123456789"))
