"""The node report: results of the probe on a compute node, as sentences with a remedy."""

from collections.abc import Iterator
from typing import Any

from cytonet_pipeline.cluster.backend import SiteCheck
from cytonet_pipeline.cluster.slurm.profile import ClusterProfile

_LEAST_FREE_GB = 2


def report_on_node(seen: dict[str, Any], profile: ClusterProfile, *, token: str, version: str) -> Iterator[SiteCheck]:
    """Judge the results of `probe.look`.

    Parameters
    ----------
    token : str
        Text that was written into the store on this side.
    version : str
        Version of this package on this side.
    """
    node = seen["node"]
    yield from _check_environment(seen, node, profile, version)
    yield from _check_gpus(seen, node, profile)
    yield from _check_paths(seen, node, token)
    yield from _check_free_space(seen, node)
    yield from _check_start_of_ranks(seen, node, profile)


def _check_environment(seen: dict[str, Any], node: str, profile: ClusterProfile, version: str) -> Iterator[SiteCheck]:
    versions = {name: package["version"] for name, package in seen["packages"].items() if package.get("version")}
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    yield SiteCheck(
        "ok", f"{node}: python {seen['python']}, {packages or 'none of the packages'}, {seen['cores']} cores"
    )
    faults = {name: package["fault"] for name, package in seen["packages"].items() if "fault" in package}
    if faults:
        lacking = f"{node}: {profile.python} cannot import {', '.join(faults)} ({next(iter(faults.values()))})"
        yield SiteCheck("bad", f"{lacking}; correct `python` or `setup` in the profile")
    there = versions.get("cytonet_pipeline", version)
    if there != version:
        text = f"{node}: cytonet_pipeline {there}, here {version}; install the same version in both places"
        yield SiteCheck("bad", text)


def _check_gpus(seen: dict[str, Any], node: str, profile: ClusterProfile) -> Iterator[SiteCheck]:
    requested, gpus = profile.gpus_per_node, seen["gpus"]
    if gpus is None:
        return
    if len(gpus) < requested:
        fault = f"{node}: torch sees {len(gpus)} of the {requested} GPUs that were requested"
        yield SiteCheck("bad", f"{fault}; load the driver's modules in `setup`, or install a torch for CUDA")
    elif gpus:
        yield SiteCheck("ok", f"{node}: {len(gpus)} GPUs ({', '.join(sorted(set(gpus)))})")
    else:
        yield SiteCheck("ok", f"{node}: no GPU, none requested")


def _check_paths(seen: dict[str, Any], node: str, token: str) -> Iterator[SiteCheck]:
    if seen["token"] != token:
        fault = f"{node}: the store there is another folder ({seen['token']})"
        yield SiteCheck("bad", f"{fault}; put it on a shared file system")
    hidden = {path: fault for path, fault in seen["paths"].items() if fault}
    for path, fault in hidden.items():
        text = f"{node}: cannot read {path} ({fault}); put it on a file system that the nodes share"
        yield SiteCheck("bad", text)
    if not hidden:
        yield SiteCheck("ok", f"{node}: sees {', '.join(seen['paths'])}")


def _check_free_space(seen: dict[str, Any], node: str) -> Iterator[SiteCheck]:
    if seen["unwritable"]:
        fault = f"{node}: cannot write 16 MB to the store ({seen['unwritable']})"
        yield SiteCheck("bad", f"{fault}; free some space, or request a larger quota")
    else:
        enough = seen["free_gb"] > _LEAST_FREE_GB
        text = f"{node}: {seen['free_gb']:.0f} GB free in the store (a quota may be lower)"
        yield SiteCheck("ok" if enough else "bad", text)
    packs = seen["packs"]
    if packs and packs["unwritable"]:
        yield SiteCheck("bad", f"{node}: cannot write to `packs`, {packs['path']} ({packs['unwritable']})")
    elif packs:
        yield SiteCheck("ok", f"{node}: {packs['free_gb']:.0f} GB free in {packs['path']}")


def _check_start_of_ranks(seen: dict[str, Any], node: str, profile: ClusterProfile) -> Iterator[SiteCheck]:
    launcher = profile.launcher[0]
    if not seen["launcher"]:
        yield SiteCheck("bad", f"{node}: no command {launcher}; correct `launcher` or `setup` in the profile")
    name, address = seen["master"]
    if address is None and profile.master_suffix:
        text = f"{node}: its name {name} does not resolve; correct `master_suffix` in the profile"
        yield SiteCheck("bad", text)
    elif address is None:
        yield SiteCheck("note", f"{node}: its name {name} does not resolve; Slurm's address is used instead")
