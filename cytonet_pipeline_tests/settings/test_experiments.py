"""Settings are read strictly, and say what is wrong in words."""

from pathlib import Path

import pytest
import yaml

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings import Settings, read_all_experiments, read_experiments
from cytonet_pipeline_tests.conftest import PROJECT

DEMO = PROJECT / "experiments" / "demo.yaml"


def changed(tmp_path: Path, change) -> Path:
    content = yaml.safe_load(DEMO.read_text())
    change(content)
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_misspelt_key_is_named_with_its_place(tmp_path):
    path = changed(tmp_path, lambda c: c["encoders"]["demo_cytonet"].update(bach_size=3))

    with pytest.raises(ConfigurationError, match=r"encoders\.demo_cytonet\.bach_size: misspelt") as caught:
        read_experiments(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["dataset"].update(density_per_mm3=-1), "density_per_mm3"),
        (lambda c: c["encoders"]["demo_cytonet"].update(method="byol"), "method"),
        (lambda c: c["encoders"]["demo_cytonet"].update(working_pixel_um=4000), "fewer than 8 px"),
        (lambda c: c.pop("dataset"), "dataset"),
        (lambda c: c["encoders"].update({"a b": c["encoders"]["demo_cytonet"]}), "a b"),
        (lambda c: c["evaluation"].update(epochs=[0, -3]), r"evaluation\.epochs\.0: .*greater than 0.*epochs\.1"),
        (lambda c: c["evaluation"].update(epochs=[]), r"evaluation\.epochs: .*at least 1 item"),
        (lambda c: c["evaluation"].update(epochs=[5, 5, 7]), r"evaluation\.epochs: each value once; 5 is given"),
        (lambda c: c["evaluation"].update(learning_rates=[0.1, -0.1]), r"learning_rates\.1: .*greater than 0"),
        (lambda c: c["evaluation"].update(logistic_c=[]), "logistic_c: .*at least 1 item"),
        (lambda c: c["evaluation"].update(labels_per_area=[0]), r"labels_per_area\.0: .*greater than 0"),
        (lambda c: c["encoders"]["demo_cytonet"].update(loss={"temperature": float("inf")}), "temperature: .*finite"),
        (lambda c: c["encoders"]["demo_cytonet"].update(optimizer={"learning_rate": float("nan")}), "learning_rate"),
        (lambda c: c["encoders"]["demo_cytonet"].update(seed=True), "seed: true is not a number"),
        (lambda c: c["dataset"].update(window=[255, 0]), r"window.*\[255, 0\] is not a range"),
        (lambda c: c["dataset"].update(held_out=20), "held_out: .*YAML reads 20 as a number: write it in quotes"),
    ],
)
def test_an_impossible_value_is_named(tmp_path, change, named):
    with pytest.raises(ConfigurationError, match=named):
        read_experiments(changed(tmp_path, change))


def test_a_key_that_is_given_twice_is_named_with_both_lines(tmp_path):
    path = tmp_path / "experiments.yaml"
    text = DEMO.read_text().replace("  demo_scratch:", "  demo_supcon:", 1)
    path.write_text(text)
    first, second = (n for n, line in enumerate(text.splitlines(), 1) if line.startswith("  demo_supcon:"))

    with pytest.raises(ConfigurationError, match=f"line {second}: key 'demo_supcon' is already given in line {first}"):
        read_experiments(path)


def test_a_key_twice_in_one_line_is_named(tmp_path):
    path = tmp_path / "experiments.yaml"
    path.write_text("dataset: {density_per_mm3: 1, held_out: B20, density_per_mm3: 2}\n")

    with pytest.raises(ConfigurationError, match="line 1: key 'density_per_mm3' is already given in line 1"):
        read_experiments(path)


def test_what_a_merge_key_brings_may_be_overridden(tmp_path):
    path = tmp_path / "experiments.yaml"
    path.write_text(DEMO.read_text())

    assert "<<: *" in path.read_text()
    assert read_experiments(path).encoders["demo_supcon"].method == "supcon"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (DEMO.read_text().encode("utf-16"), "not UTF-8 text"),
        (b"dataset: {stain: \xe9}\n", "not UTF-8 text"),
        (b"[" * 1500, "nested too deeply|not valid YAML"),
        (b"dataset: {stain: [}\n", "not valid YAML"),
        (b"- a list\n", "file: .*valid dictionary"),
    ],
    ids=["utf-16", "latin-1", "deep", "open bracket", "list"],
)
def test_a_file_that_is_not_yaml_text_is_named(tmp_path, content, named):
    path = tmp_path / "experiments.yaml"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=named) as caught:
        read_experiments(path)
    assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    path = tmp_path / "experiments.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + DEMO.read_bytes())

    assert read_experiments(path) == read_experiments(DEMO)


def test_a_name_may_be_used_once_across_files(tmp_path):
    for name in ("a.yaml", "b.yml"):
        (tmp_path / name).write_text(DEMO.read_text())

    with pytest.raises(ConfigurationError, match=r"is also in .*a\.yaml"):
        read_all_experiments(tmp_path / "b.yml")


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml"])
def test_an_experiments_file_may_have_either_suffix_of_yaml(tmp_path, name):
    (tmp_path / name).write_text(DEMO.read_text())

    assert "demo_cytonet" in read_all_experiments(tmp_path / name)


def test_another_suffix_is_refused_with_the_right_ones(tmp_path):
    with pytest.raises(ConfigurationError, match=r"let its name end in \.yaml or \.yml"):
        read_all_experiments(tmp_path / "mine.txt")


def test_a_file_of_another_kind_beside_the_experiments_is_named_with_the_way_out(tmp_path):
    (tmp_path / "mine.yaml").write_text(DEMO.read_text())
    (tmp_path / "cluster.yaml").write_text("nodes: 2\n")

    with pytest.raises(ConfigurationError, match=r"(?s)cluster\.yaml: .*nodes.*move it to another folder"):
        read_all_experiments(tmp_path / "mine.yaml")


def test_the_shipped_experiments_are_valid_and_their_names_unique():
    names = read_all_experiments(DEMO)
    assert {"demo_cytonet", "poster_r50_10M"} <= set(names)


def test_the_configured_data_set_may_hold_out_another_brain_for_one_encoder(tmp_path):
    path = changed(tmp_path, lambda c: c["encoders"]["demo_supcon"].update(held_out="B01"))
    settings = Settings.from_environment({"CYTONET_EXPERIMENTS": str(path)})

    assert settings.held_out("demo_supcon") == "B01"
    assert settings.held_out("demo_cytonet") == "B20"
    with pytest.raises(ConfigurationError, match="no encoder 'x'"):
        settings.encoder("x")


def _with_parts(tmp_path, parts):
    path = tmp_path / "study.yaml"
    encoders = "  {n}: {{method: random, working_pixel_um: 128{more}}}\n"
    blocks = "".join(
        encoders.format(n=name, more=more)
        for name, more in (("a1", ""), ("b", ""), ("a2", ", retired: true"), ("a3", ""))
    )
    path.write_text(f"dataset: {{density_per_mm3: 0.1, held_out: B20}}\nencoders:\n{blocks}parts: {parts}\n")
    return path


def test_parts_put_encoders_in_the_order_of_importance(tmp_path):
    experiments = read_experiments(_with_parts(tmp_path, "{first: [b], second: [a*]}"))

    assert experiments.encoders_of("second") == ["a1", "a3"]
    assert experiments.by_importance() == ["b", "a1", "a3"]
    assert read_experiments(_with_parts(tmp_path, "{first: [a3]}")).by_importance() == ["a3", "a1", "b"]
    with pytest.raises(ConfigurationError, match="no part 'secnd'; near it: second"):
        experiments.encoders_of("secnd")


def test_a_part_names_encoders_that_there_are(tmp_path):
    with pytest.raises(ConfigurationError, match=r"parts.first: no encoder is called 'c\*'"):
        read_experiments(_with_parts(tmp_path, "{first: ['c*']}"))
