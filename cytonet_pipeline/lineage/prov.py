"""The lineage of a model as W3C PROV, in its JSON form, so that it outlives this software.

Entities are the sections, the training set, the weights (and those that they continue from), and what was computed with
them; activities are the training run and each evaluation; agents are this program and those whom the record names.

Source: Huynh, Jewell, Keshavarz, Michaelides, Yang, Moreau: The PROV-JSON Serialization. W3C Member Submission, 2013.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from cytonet_pipeline.lineage.learned import describe_learning
from cytonet_pipeline.lineage.queries import folder_of, sections_of
from cytonet_pipeline.store import Store, digest_file, read_record, read_stamp, stamp_digest
from cytonet_pipeline.store.pins import decisions_on_use

_PREFIXES = {"cytonet": "urn:cytonet:"}
# Folder of the store: activity that makes it.
_EVALUATIONS = {
    "patch_embeddings": "embedding",
    "linear_probes": "probing",
    "umap": "projection",
    "area_maps": "mapping",
}
_MADE_WITH = {"linear_probes": ("patch_embeddings",), "umap": ("patch_embeddings",), "area_maps": ("linear_probes",)}
_SECTION_COLUMNS = ("path", "digest", "pixel_um", "mask_digest", "annotation_digest", "transform_digest")
# Roles of sections from which training takes patches, and of those that evaluations score.
_LEARNING, _TESTING = ("train", "validation"), ("seen_brains", "unseen_brain")


class _Document:
    """A PROV document in the making: records by kind and identifier."""

    def __init__(self) -> None:
        self.content: dict[str, dict[str, Any]] = {"prefix": dict(_PREFIXES)}
        self._relations = 0

    def add(self, kind: str, identifier: str, **attributes: Any) -> str:
        """Add an entity, activity or agent; its attributes get the prefix of this program, unless they have one."""
        named = {
            name.replace("prov_", "prov:") if name.startswith("prov_") else f"cytonet:{name}": _literal(value)
            for name, value in attributes.items()
            if not _is_missing(value)
        }
        self.content.setdefault(kind, {})[identifier] = named
        return identifier

    def relate(self, kind: str, role: str = "", **ends: str) -> None:
        """Add a relation between records."""
        self._relations += 1
        record = {f"prov:{name}": identifier for name, identifier in ends.items()}
        if role:
            record["prov:role"] = role
        self.content.setdefault(kind, {})[f"_:r{self._relations}"] = record


def as_prov(encoder: str, store: Store, version: str | None = None) -> dict[str, Any]:
    """Describe the lineage of a version of an encoder, and of what was computed with it, as a PROV-JSON document.

    Parameters
    ----------
    version : str, optional
        Default: the one in use.

    Returns
    -------
    dict
        What `json.dump` writes as PROV-JSON. Digests are those of the store (docs/store.md).

    Raises
    ------
    StoreError
        The encoder has not been trained, or has no such version.
    """
    folder = folder_of(encoder, store, version)
    sections, document = sections_of(encoder, store, folder.name), _Document()
    record = read_record(folder / "training_set.json")
    scans = {(row["brain"], row["sample"]): _add_section(document, row) for row in sections.to_dict("records")}
    training_set = _add_training_set(document, folder, record, list(scans.values()))
    weights = _add_training(document, folder, record, sections, scans, training_set)
    for kind, activity in _EVALUATIONS.items():
        _add_evaluation(document, store, folder, kind, activity, weights, sections, scans)
    _add_decisions(document, store, encoder, folder.name, weights)
    return document.content


def _add_section(document: _Document, row: dict[Any, Any]) -> str:
    identifier = _name("section", str(row["brain"]), str(row["sample"]), str(row["digest"]))
    values = {name: row[name] for name in _SECTION_COLUMNS}
    return document.add(
        "entity", identifier, prov_type="cytonet:Section", brain=row["brain"], sample=row["sample"], **values
    )


def _add_training_set(document: _Document, folder: Path, record: dict[str, Any], members: list[str]) -> str:
    collection = document.add(
        "entity",
        _name("training_set", folder.name),
        prov_type="prov:Collection",
        version=folder.name,
        held_out=record.get("held_out"),
        code_version=record.get("code_version"),
        created=record.get("created"),
        sections_digest=record.get("sections_digest"),
        patch_ids_digest=record.get("patch_ids_digest"),
    )
    for member in members:
        document.relate("hadMember", collection=collection, entity=member)
    return collection


def _add_training(
    document: _Document,
    folder: Path,
    record: dict[str, Any],
    sections: pd.DataFrame,
    scans: dict[tuple[Any, Any], str],
    training_set: str,
) -> str:
    """Add the training run, the weights, and what they continue from; return the weights."""
    trained = read_record(folder / "encoder.json") if (folder / "encoder.json").exists() else {}
    config = record.get("config", {}).get("encoder", {})
    file = folder / "encoder.safetensors"
    weights = document.add(
        "entity",
        _name("encoder", folder.parent.name, folder.name),
        prov_type="cytonet:Encoder",
        encoder=folder.parent.name,
        version=folder.name,
        method=config.get("method"),
        backbone=config.get("backbone"),
        weights_digest=digest_file(file) if file.exists() else None,
        learned=describe_learning(record, sections),
    )
    training = document.add(
        "activity", _name("training", folder.parent.name, folder.name), prov_type="cytonet:Training", **_plain(config)
    )
    environment = trained.get("environment", {})
    software = document.add(
        "agent",
        _name("software", str(record.get("package_version", "unknown"))),
        prov_type="prov:SoftwareAgent",
        commit=(environment.get("git") or {}).get("commit"),
        python=environment.get("python"),
        platform=environment.get("platform"),
        **{f"package_{name}": found for name, found in environment.get("packages", {}).items()},
    )
    document.relate("wasGeneratedBy", entity=weights, activity=training)
    document.relate("wasAssociatedWith", activity=training, agent=software)
    document.relate("used", activity=training, entity=training_set)
    document.relate("wasDerivedFrom", generatedEntity=weights, usedEntity=training_set)
    for row in sections[sections["role"].isin(_LEARNING)].to_dict("records"):
        if row["n_training_patches"] or row["role"] == "validation":
            role = f"cytonet:{row['role']}"
            document.relate("used", role, activity=training, entity=scans[row["brain"], row["sample"]])
    if (given := record.get("init_from")) is not None:
        named = (
            _name("encoder", given["encoder"], given["version"])
            if given["encoder"]
            else _name("weights", str(given["digest"]))
        )
        ancestor = document.add("entity", named, prov_type="cytonet:Encoder", weights_digest=given["digest"])
        document.relate("used", "cytonet:initial_weights", activity=training, entity=ancestor)
        document.relate("wasDerivedFrom", generatedEntity=weights, usedEntity=ancestor)
    return weights


def _add_evaluation(
    document: _Document,
    store: Store,
    folder: Path,
    kind: str,
    activity: str,
    weights: str,
    sections: pd.DataFrame,
    scans: dict[tuple[Any, Any], str],
) -> None:
    place = store.root / kind / folder.parent.name / folder.name
    stamp = read_stamp(place) if place.is_dir() else None
    if stamp is None:
        return
    names = (folder.parent.name, folder.name)
    result = document.add(
        "entity",
        _name(kind, *names),
        prov_type=f"cytonet:{kind}",
        digest=stamp_digest(place),
        path=str(place.relative_to(store.root)),
    )
    run = document.add("activity", _name(activity, *names), prov_type=f"cytonet:{activity}")
    document.relate("wasGeneratedBy", entity=result, activity=run)
    document.relate("used", activity=run, entity=weights)
    document.relate("wasDerivedFrom", generatedEntity=result, usedEntity=weights)
    indices = stamp.get("indices") or (stamp.get("embeddings") or {}).get("indices") or {}
    for row in sections[sections["role"] != "gap"].to_dict("records"):
        if row["brain"] in indices:
            role = "cytonet:test" if row["role"] in _TESTING else "cytonet:fit"
            document.relate("used", role, activity=run, entity=scans[row["brain"], row["sample"]])
    for earlier in _MADE_WITH.get(kind, ()):
        if (source := _name(earlier, *names)) in document.content["entity"]:
            document.relate("used", activity=run, entity=source)


def _add_decisions(document: _Document, store: Store, encoder: str, version: str, weights: str) -> None:
    """Add who has put this version into use."""
    for decision in decisions_on_use(store, encoder):
        if decision.pinned == version:
            person = document.add("agent", _name("person", decision.by), prov_type="prov:Person", name=decision.by)
            document.relate("wasAttributedTo", entity=weights, agent=person)


def _name(*parts: str) -> str:
    """Return a qualified name; whatever is no letter or digit of a URL is escaped."""
    return "cytonet:" + "/".join(quote(part, safe="") for part in parts)


def _plain(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings as flat attributes: `loss.length_mm`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat.update(_plain(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and pd.isna(value)) or value is pd.NA


def _literal(value: Any) -> Any:
    """Return a value as PROV-JSON has it; numbers with their type, or readers take 1.0 for an integer."""
    if isinstance(value, str) and value.startswith(("prov:", "cytonet:")):
        return {"$": value, "type": "prov:QUALIFIED_NAME"}
    if isinstance(value, bool):
        return {"$": str(value).lower(), "type": "xsd:boolean"}
    if isinstance(value, int):
        return {"$": str(value), "type": "xsd:long"}
    if isinstance(value, float):
        return {"$": repr(value), "type": "xsd:double"}
    return str(value)
