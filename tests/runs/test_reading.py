"""A run without labels: what its components are called, hold, and look like."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures import RunView
from pyro_gmmvae.figures.components import draw_components, draw_entropy
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.clusters import Clusters, read_clusters
from pyro_gmmvae.runs.component_names import component_names, read_names, write_names
from pyro_gmmvae.runs.label_components import LabelTable, name_components, read_labels, summary
from tests.conftest import ROWS


@pytest.fixture(scope="module")
def clusters(clustered: Run) -> Clusters:
    return read_clusters(clustered)


def with_probs(clusters: Clusters, probs: Any) -> Clusters:
    """The same rows under other probabilities, given for the first ones; the rest are of 0."""
    found = np.full(clusters.log_probs.shape, 1e-6)
    found[:, 0] = 1
    found[: len(probs), : len(probs[0])] = probs
    log_probs = np.log(found / found.sum(1, keepdims=True))
    return replace(clusters, log_probs=log_probs, row_log_probs=log_probs)


def view_of(clusters: Clusters) -> RunView:
    """Of these clusters instead of those that the run finds."""
    view = RunView(clusters.run)
    vars(view)["clusters"] = clusters
    return view


def test_components_have_the_classes_names_only_where_labels_were_seen(
    clustered: Run, tmp_path: Path
) -> None:
    assert clustered.schema.classes
    assert clustered.class_names() == [f"component_{k}" for k in range(5)]
    assert clustered.block_names() == clustered.class_names()
    assert clustered.generate(2).shape[0] == 5
    told = clustered.config.replace(labels=12, init="random", epochs=1, labelled_per_batch=4)
    known = train(told, tmp_path / "r")
    assert known.class_names() == ["ann", "bob", "cy", "component_3", "component_4"]
    assert known.block_names() == ["ann", "bob", "cy"]
    write_names(known.path, list("abcde"), {})
    assert Run.load(known.path).class_names() == known.class_names()


def test_numbers_of_components(clustered: Run) -> None:
    numbers = clustered.evaluate(samples=2)
    sizes = numbers["component_sizes"]
    assert len(sizes) == 5
    assert sum(sizes) == numbers["test_rows"] == 30
    assert numbers["components_used"] == sum(size > 0 for size in sizes) > 1
    assert 0 <= numbers["assignment_entropy"] <= np.log(5)
    assert -1 <= numbers["silhouette"] <= 1
    assert numbers["accuracy"] is None
    assert "named_accuracy" not in numbers
    assert numbers["cluster_accuracy"] > 0.5


def test_where_labels_were_seen_there_is_no_silhouette(clustered: Run, tmp_path: Path) -> None:
    told = clustered.config.replace(labels=12, init="random", epochs=1, labelled_per_batch=4)
    numbers = train(told, tmp_path / "r").evaluate(samples=2)
    assert numbers["silhouette"] is None
    assert numbers["assignment_entropy"] is not None


def test_every_row_is_listed_once_with_its_part(clusters: Clusters) -> None:
    table = clusters.table()
    assert table["row"].tolist() == list(range(ROWS))
    assert table["part"].value_counts().to_dict() == {"train": 100, "test": 30, "validation": 20}
    assert set(table.loc[clusters.rows.split.test, "part"]) == {"test"}
    assert (table["name"] == [f"component_{k}" for k in table["component"]]).all()
    assert table["probability"].between(0.2, 1).all()


def test_rows_keep_the_numbers_they_have_in_the_file(clustered: Run, tmp_path: Path) -> None:
    text = Path(clustered.config.data).read_text().splitlines()
    text.insert(1, "nan,1,1,1,ann")
    (tmp_path / "rows.csv").write_text("\n".join(text) + "\n")
    config = clustered.config.replace(
        data=str(tmp_path / "rows.csv"), drop_nonfinite=True, init="random", epochs=1
    )
    found = read_clusters(train(config, tmp_path / "r"))
    assert found.ids.tolist() == list(range(1, ROWS + 1))


def test_the_nearest_are_the_surest_then_the_closest(clusters: Clusters) -> None:
    probs = [[0.1, 0.8], [0.0001, 0.999], [0.4, 0.6], [0.0001, 0.999], [0.3, 0.3]]
    changed = with_probs(clusters, probs)
    center = changed.prototypes(np.array([1]))[0][0]
    z = changed.z.copy()
    z[1], z[3] = center + 2, center + 1
    nearest, uncertain = replace(changed, z=z).members(1)
    assert nearest.tolist() == [3, 1, 0, 2]
    assert uncertain.tolist()[:2] == [2, 0]


def test_decoded_means_are_in_the_files_units(clusters: Clusters) -> None:
    """Each near a class's mean, 4 in one column, and not in standard deviations."""
    means = clusters.prototypes(clusters.used)[1]
    assert means.shape == (len(clusters.used), 4)
    assert 1 < means.max() < 6
    assert means.min() > -2


def test_names_go_by_the_sum_of_probabilities(clusters: Clusters) -> None:
    """Of component 1 two rows say a with .45 each, and one b with .8; row 3 is of 2."""
    found = with_probs(
        clusters,
        [[0.3, 0.45, 0.25], [0.3, 0.45, 0.25], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.9, 0.05, 0.05]],
    )
    said = {"0": "a", "1": "a", "2": "b", "3": "b", "4": "c"}
    naming = name_components(found, LabelTable("row", said), "f.csv")
    assert naming.names == ("c", "a", "b", "component_3", "component_4")
    assert naming.counts == {0: {"c": 1}, 1: {"a": 2, "b": 1}, 2: {"b": 1}}
    assert naming.conflicts() == ["component 1: its labels disagree (a 2, b 1); it is named a"]
    assert naming.tested == len(set(range(5)) & set(found.rows.split.test.tolist()))
    assert summary(found, naming)["rows"].tolist() == [ROWS - 4, 3, 1, 0, 0]
    surer = with_probs(found, [[0.3, 0.36, 0.34], [0.3, 0.36, 0.34], [0.1, 0.8, 0.1]])
    said = {"0": "a", "1": "a", "2": "b", "9": "c"}
    assert name_components(surer, LabelTable("row", said), "f.csv").names[1] == "b"


def test_a_component_without_a_label_is_told_with_a_row_to_label(clusters: Clusters) -> None:
    found = with_probs(clusters, [[0.1, 0.8, 0.1], [0.05, 0.9, 0.05]])
    labels = LabelTable("row", {"7": "a"})
    with pytest.raises(
        GMMVAEError, match=r"these components have no labelled row: 1 \(row 1\); label the row"
    ):
        name_components(found, labels, "f.csv")
    naming = name_components(found, labels, "f.csv", allow_unnamed=True)
    assert list(naming.names) == ["a", *component_names((), 5)[1:]]
    direct = name_components(found, LabelTable("component", {"1": "x", "0": "x"}), "f.csv")
    assert direct.names[:2] == ("x", "x")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LabelTable("row", {"150": "a"}), "no row 150; they are 0 to 149"),
        (LabelTable("component", {"5": "a"}), "no component 5; they are 0 to 4"),
        (LabelTable("component", {"-1": "a"}), "no component -1"),
    ],
)
def test_what_is_not_there_can_not_be_labelled(
    clusters: Clusters, labels: LabelTable, message: str
) -> None:
    with pytest.raises(GMMVAEError, match=message):
        name_components(clusters, labels, "f.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("row,label\n", "holds no labels"),
        ("a,b\n1,2\n", "it needs row,label or component,label"),
        ("row,name\n1,2\n", "it needs row,label"),
        ("row,label\n1,a\n1,b\n", "line 3: row 1 is called 'a' and 'b'"),
        ("component,label\n1,a\n1.0,b\n", "line 3: component 1 is called"),
        ("row,label\n1, \n", "line 2: the label of row 1 is empty"),
        ("row,label\n1\n", "line 2: the label of row 1 is empty"),
        ("row,label\n1,-1\n", "line 2: the label of row 1 is -1, which is none"),
        ("row,label\nnan,a\n", "row 'nan' is not a whole number"),
        ("row,label\n1.5,a\n", "row '1.5' is not a whole number"),
        ("row,label\n1,a,b\n", "more entries than the first"),
    ],
)
def test_a_bad_file_of_labels_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(GMMVAEError, match=message) as caught:
        read_labels(tmp_path / "l.csv", "row")
    assert "\n" not in str(caught.value)


def test_lines_of_the_table_with_labels_added_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("row,component,label\n 3 ,0,ann\n4.0,0,NA\n3,0,ann\n")
    assert read_labels(tmp_path / "l.csv", "row") == LabelTable("row", {"3": "ann", "4": "NA"})
    (tmp_path / "l.csv").write_text("sequence,label\n007,ann\n")
    assert read_labels(tmp_path / "l.csv", "sequence").labels == {"007": "ann"}


def test_foreign_bytes_are_no_labels(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"\x89PNG\r\n")
    for file, message in (("l.csv", "can't be read as csv"), ("", "a folder"), ("o", "not exist")):
        with pytest.raises(GMMVAEError, match=message):
            read_labels(tmp_path / file, "row")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "can't be read as JSON"),
        ("[]", "damaged"),
        ('{"names": "abcde"}', "damaged"),
        ('{"names": ["a", "b", "c", "d", ""]}', "damaged"),
        ('{"names": ["a", "b"]}', "2 names and the run has 5 components"),
    ],
)
def test_a_damaged_names_file_is_told_when_a_run_is_loaded(
    clustered: Run, tmp_path: Path, content: str, message: str
) -> None:
    shutil.copytree(clustered.path, tmp_path / "r")
    (tmp_path / "r" / "names.json").write_text(content)
    with pytest.raises(GMMVAEError, match=message) as caught:
        Run.load(tmp_path / "r")
    assert "delete it" in str(caught.value)


def test_names_are_used_everywhere(clustered: Run, clusters: Clusters, tmp_path: Path) -> None:
    shutil.copytree(clustered.path, tmp_path / "r")
    y = clusters.rows.dataset.y
    said = {str(row): clustered.schema.classes[y[row]] for row in clusters.rows.split.train}
    naming = name_components(clusters, LabelTable("row", said), "f.csv", allow_unnamed=True)
    write_names(tmp_path / "r", naming.names, naming.counts)
    told = json.loads((tmp_path / "r" / "names.json").read_text())
    assert told["names"] == list(naming.names) == list(read_names(tmp_path / "r", 5) or ())
    assert sum(n for c in told["from"].values() for n in c.values()) == len(said)
    run = Run.load(tmp_path / "r")
    table = run.predict(run.config.data)
    before = clustered.predict(run.config.data)
    distinct = dict.fromkeys(naming.names)
    assert list(table.columns) == [
        "row",
        "label",
        *(f"p_{n}" for n in distinct),
        "elbo",
        "elbo_quantile",
    ]
    for name in distinct:
        mine = [f"p_component_{k}" for k, n in enumerate(naming.names) if n == name]
        np.testing.assert_allclose(table[f"p_{name}"], before[mine].sum(axis=1), rtol=1e-5)
    right = table["label"] == np.array(run.schema.classes)[y]
    test = clusters.rows.split.test
    assert run.evaluate(samples=2)["named_accuracy"] == pytest.approx(right[test].mean())
    for name in distinct:
        k = [k for k, n in enumerate(naming.names) if n == name]
        assert run.components_of(name) == k
        assert run.block_names(name) == [name] * len(k) == [name] * len(run.generate(1, label=name))
    with pytest.raises(GMMVAEError, match="unknown class 'component_9'"):
        run.generate(1, label="component_9")


def test_one_component_that_holds_everything_is_drawn_and_measured(
    clusters: Clusters, tmp_path: Path
) -> None:
    config = default_config(
        clusters.run.config.data,
        {"labels": 0, "components": 1, "epochs": 1, "hidden": "4", "latent_dim": 2},
    )
    run = train(config, tmp_path / "r")
    numbers = run.evaluate(samples=2)
    assert numbers["components_used"] == 1
    assert numbers["silhouette"] is None
    for draw in (draw_components, draw_entropy):
        draw(RunView(run)).savefig(tmp_path / "f.png")


def test_a_small_component_shows_no_row_twice(clusters: Clusters, tmp_path: Path) -> None:
    found = with_probs(clusters, [[0.1, 0.8, 0.1], [0.05, 0.9, 0.05]])
    figure = draw_components(view_of(found))
    captions = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert captions[-2:] == ["1", "0"]
    assert len(set(captions)) == len(captions)
    figure.savefig(tmp_path / "f.png")


def test_a_long_name_with_dollars_is_drawn(clusters: Clusters, tmp_path: Path) -> None:
    run = replace(clusters.run, names=("$a_$" * 20, *"bcde"))
    for draw in (draw_components, draw_entropy):
        draw(view_of(replace(clusters, run=run))).savefig(tmp_path / "f.png")


def test_evaluate_without_nll_rows_has_the_elbo_and_no_nll(trained: Path) -> None:
    run = Run.load(trained, device="cpu")
    without, few = (run.evaluate(samples=2, nll_rows=n) for n in (0, 5))
    assert few["nll"] is not None
    assert without["nll"] is without["ess"] is without["pareto_k"] is None
    assert (without["elbo"], without["accuracy"]) == (few["elbo"], few["accuracy"])
