"""The lineage of a model as PROV-JSON, read by the format's own library."""

import json

import pytest

from cytonet_pipeline.lineage import as_prov
from cytonet_pipeline.store import read_record, write_record
from cytonet_pipeline.store.pins import pin
from cytonet_pipeline_tests.lineage.conftest import write_sections
from cytonet_pipeline_tests.lineage.test_affected import evaluate
from cytonet_pipeline_tests.lineage.test_queries import train

prov = pytest.importorskip("prov.model", reason="the format's own library, prov, is not installed")


def read(content):
    """Return the document as the library reads it, after a round trip through text."""
    document = prov.ProvDocument.deserialize(content=json.dumps(content))
    assert prov.ProvDocument.deserialize(content=document.serialize()) == document
    return document


def by_kind(document, kind):
    return [record for record in document.get_records() if isinstance(record, kind)]


def test_the_library_reads_which_sections_trained_the_weights(world):
    trained = train(world)
    evaluate(world, trained, ("B01", "B20"))

    document = read(as_prov("one", world.store))

    entities = {str(record.identifier): record for record in by_kind(document, prov.ProvEntity)}
    sections = [record for name, record in entities.items() if name.startswith("cytonet:section/")]
    assert len(sections) == len(trained.sections)
    used: dict[str, set[str]] = {}
    for usage in by_kind(document, prov.ProvUsage):
        used.setdefault(str(usage.args[0]), set()).add(str(usage.args[1]))
    learning = trained.sections.query("n_training_patches > 0 or role == 'validation'")
    of_training = {f"cytonet:section/{r.brain}/{r.sample}/{r.digest}" for r in learning.itertuples()}
    version = trained.version
    assert used[f"cytonet:training/one/{version}"] == {*of_training, f"cytonet:training_set/{version}"}
    probing = used[f"cytonet:probing/one/{version}"]
    assert {f"cytonet:encoder/one/{version}", f"cytonet:patch_embeddings/one/{version}"} <= probing
    assert not any("section/B02" in name for name in probing), "its brain was left out of the evaluation"
    assert len(by_kind(document, prov.ProvMembership)) == len(sections)


def test_names_of_any_kind_and_what_it_continues_from_are_kept(world):
    """A blank, an umlaut, a colon and a slash are no names in PROV, and paths of other people have them."""
    trained = train(world)
    folder = world.store.encoder("one", trained.version)
    sections = trained.sections.copy()
    awkward = "ü b: 1#"
    sections.loc[0, "sample"] = awkward
    write_sections(folder, sections)
    given = {"encoder": None, "version": None, "digest": "abc", "path": "/weights of x.pt", "sections_seen": None}
    record = read_record(folder / "training_set.json")
    write_record(folder / "training_set.json", {**record, "init_from": given})
    pin(world.store, "one", trained.version, "Ada L.")

    document = read(as_prov("one", world.store))

    (section,) = [r for r in by_kind(document, prov.ProvEntity) if r.get_attribute("cytonet:sample") == {awkward}]
    assert section.get_attribute("cytonet:digest") == {sections.loc[0, "digest"]}
    assert "cytonet:weights/abc" in {str(record.args[1]) for record in by_kind(document, prov.ProvDerivation)}
    (person,) = [r for r in by_kind(document, prov.ProvAgent) if "person" in str(r.identifier)]
    assert person.get_attribute("cytonet:name") == {"Ada L."}
