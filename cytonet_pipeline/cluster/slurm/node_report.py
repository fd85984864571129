"""What a probe saw on a compute node, as sentences with a remedy."""

from collections.abc import Iterator
from typing import Any, Literal

from cytonet_pipeline.cluster.slurm.profile import ClusterProfile

Told = tuple[Literal["ok", "note", "bad"], str]
_LEAST_FREE_GB = 2


def of_the_node(seen: dict[str, Any], profile: ClusterProfile, *, token: str, version: str) -> Iterator[Told]:
    """Judge what `probe.look` returned.

    Parameters
    ----------
    token : str
        What was written into the store on this side.
    version : str
        Version of this package on this side.
    """
    node = seen["node"]
    yield from _environment(seen, node, profile, version)
    yield from _gpus(seen, node, profile)
    yield from _paths(seen, node, token)
    yield from _room(seen, node)
    yield from _start_of_ranks(seen, node, profile)


def _environment(seen: dict[str, Any], node: str, profile: ClusterProfile, version: str) -> Iterator[Told]:
    found = {name: said["version"] for name, said in seen["packages"].items() if said.get("version")}
    told = ", ".join(f"{name} {number}" for name, number in found.items())
    yield "ok", f"{node}: python {seen['python']}, {told or 'none of the packages'}, {seen['cores']} cores"
    faults = {name: said["fault"] for name, said in seen["packages"].items() if "fault" in said}
    if faults:
        lacking = f"{node}: {profile.python} cannot import {', '.join(faults)} ({next(iter(faults.values()))})"
        yield "bad", f"{lacking}; mend `python` or `setup` in the profile"
    there = found.get("cytonet_pipeline", version)
    if there != version:
        yield "bad", f"{node}: cytonet_pipeline {there}, here {version}; install the same version in both places"


def _gpus(seen: dict[str, Any], node: str, profile: ClusterProfile) -> Iterator[Told]:
    asked, gpus = profile.gpus_per_node, seen["gpus"]
    if gpus is None:
        return
    if len(gpus) < asked:
        what = f"{node}: torch sees {len(gpus)} of the {asked} GPUs that were asked for"
        yield "bad", f"{what}; load the driver's modules in `setup`, or install a torch for CUDA"
    else:
        yield (
            "ok",
            f"{node}: {len(gpus)} GPUs ({', '.join(sorted(set(gpus)))})" if gpus else f"{node}: no GPU, none asked for",
        )


def _paths(seen: dict[str, Any], node: str, token: str) -> Iterator[Told]:
    if seen["token"] != token:
        yield "bad", f"{node}: the store there is another one ({seen['token']}); put it on a shared file system"
    hidden = {path: fault for path, fault in seen["paths"].items() if fault}
    for path, fault in hidden.items():
        yield "bad", f"{node}: cannot read {path} ({fault}); put it on a file system that the nodes share"
    if not hidden:
        yield "ok", f"{node}: sees {', '.join(seen['paths'])}"


def _room(seen: dict[str, Any], node: str) -> Iterator[Told]:
    if seen["unwritable"]:
        yield "bad", f"{node}: cannot write 16 MB to the store ({seen['unwritable']}); make room, or ask for more quota"
    else:
        word: Literal["ok", "bad"] = "ok" if seen["free_gb"] > _LEAST_FREE_GB else "bad"
        yield word, f"{node}: {seen['free_gb']:.0f} GB free in the store (a quota may be lower)"
    packs = seen["packs"]
    if packs and packs["unwritable"]:
        yield "bad", f"{node}: cannot write to `packs`, {packs['path']} ({packs['unwritable']})"
    elif packs:
        yield "ok", f"{node}: {packs['free_gb']:.0f} GB free in {packs['path']}"


def _start_of_ranks(seen: dict[str, Any], node: str, profile: ClusterProfile) -> Iterator[Told]:
    launcher = profile.launcher[0]
    if not seen["launcher"]:
        yield "bad", f"{node}: no command {launcher}; mend `launcher` or `setup` in the profile"
    name, address = seen["master"]
    if address is None:
        word: Literal["bad", "note"] = "bad" if profile.master_suffix else "note"
        remedy = "mend `master_suffix` in the profile" if profile.master_suffix else "Slurm's address is taken instead"
        yield word, f"{node}: its name {name} does not resolve; {remedy}"
