"""Reading the clusters of a run as a user types it: figures, names, and what uses them."""

import io
import json
import shutil
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest

from pyro_gmmvae.runs import Run

from .conftest import SMALL, Gmmvae
from .test_bad_input import refused


@pytest.fixture
def run(clustered: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clustered.path, tmp_path / "run"))


def labels(run: Path, file: Path, *, leave_out: int | None = None) -> Path:
    """The surest training rows of each component with their true classes, of a data file."""
    table = pd.read_csv(run / "figures" / "clusters.csv")
    rows = pd.read_csv(run.parent / "rows.csv")
    told = table[(table["part"] == "train") & (table["component"] != leave_out)]
    told = told.sort_values("probability").groupby("component").tail(2)[["row"]]
    told.assign(label=rows["label"].to_numpy()[told["row"]]).to_csv(file, index=False)
    return file


@pytest.fixture
def drawn(run: Path, clustered: Run, gmmvae: Gmmvae) -> Path:
    shutil.copy(clustered.config.data, run.parent / "rows.csv")
    result = gmmvae("figures", run, "--only", "clusters")
    assert result.code == 0, result.err
    assert result.err.startswith("clusters.csv in ")
    return run


def test_the_table_of_clusters_has_all_rows(drawn: Path) -> None:
    table = pd.read_csv(drawn / "figures" / "clusters.csv")
    assert list(table) == ["row", "part", "component", "name", "probability", "entropy"]
    assert table["row"].tolist() == list(range(150))


def test_images_are_drawn_as_images(gmmvae: Gmmvae, trained: Path, tmp_path: Path) -> None:
    only = ("--only", "components,clusters")
    assert gmmvae("figures", trained, "--out", tmp_path / "f", *only).code == 0
    table = pd.read_csv(tmp_path / "f" / "clusters.csv")
    assert set(table["name"].astype(str)) <= {str(digit) for digit in range(10)}
    pixels = matplotlib.image.imread(tmp_path / "f" / "components.png")[..., :3]
    grays = (pixels.max(-1) - pixels.min(-1)) < 0.05
    assert grays.mean() > 0.99


@pytest.mark.parametrize("model", ["vae", "ae", "m1"])
def test_a_model_without_components_says_so(gmmvae: Gmmvae, tmp_path: Path, model: str) -> None:
    run = tmp_path / "r"
    assert gmmvae("train", *SMALL, "--model", model, "--epochs", 1, "--out", run).code == 0
    file = tmp_path / "names.csv"
    file.write_text("component,label\n0,ann\n")
    refused(gmmvae("name", run, file), f"the model {model!r} has no components")


def test_components_are_named_by_a_few_rows(gmmvae: Gmmvae, drawn: Path) -> None:
    file = labels(drawn, drawn.parent / "l.csv")
    named = gmmvae("name", drawn, file)
    assert named.code == 0, named.err
    table = pd.read_csv(io.StringIO(named.out), sep=r"\s+")
    assert list(table) == ["component", "name", "rows"]
    assert table["rows"].sum() == 150
    assert table["name"].isin(["ann", "bob", "cy"]).sum() >= 3
    assert "replaced" not in named.err
    content = json.loads((drawn / "names.json").read_text())
    assert content["names"] == table["name"].tolist()
    assert set(content) == {"names", "from"}
    predicted = pd.read_csv(io.StringIO(gmmvae("predict", drawn, drawn.parent / "rows.csv").out))
    truth = pd.read_csv(drawn.parent / "rows.csv")["label"]
    assert (predicted["label"] == truth).mean() > 0.9
    text = gmmvae("evaluate", drawn, "--samples", 2).out
    assert "named_accuracy" in text
    assert "cy: " in text.split("test rows per component")[1]
    assert "those of the data served this evaluation only" in text
    assert "names it had are replaced" in gmmvae("name", drawn, file).err
    drawing = drawn.parent / "g.png"
    assert gmmvae("generate", drawn, "--class", "ann", "--out", drawing).code == 0


def test_conflicts_and_test_rows_are_told(gmmvae: Gmmvae, drawn: Path) -> None:
    file = labels(drawn, drawn.parent / "l.csv")
    table = pd.read_csv(drawn / "figures" / "clusters.csv")
    given = pd.read_csv(file)["row"]
    wrong = table[(table["part"] == "test") & ~table["row"].isin(given)].iloc[0]
    with file.open("a") as out:
        out.write(f"{wrong['row']},nobody\n")
    result = gmmvae("name", drawn, file)
    assert result.code == 0
    assert f"component {wrong['component']}: its labels disagree" in result.err
    assert "1 of the labelled rows are test ones" in result.err
    assert "nobody" not in result.out


def test_a_component_without_a_labelled_row_is_named_on_request_only(
    gmmvae: Gmmvae, drawn: Path
) -> None:
    largest = pd.read_csv(drawn / "figures" / "clusters.csv")["component"].mode()[0]
    file = labels(drawn, drawn.parent / "l.csv", leave_out=largest)
    refused(gmmvae("name", drawn, file), f"no labelled row: {largest} (row ", "--allow-unnamed")
    assert not (drawn / "names.json").exists()
    result = gmmvae("name", drawn, file, "--allow-unnamed")
    assert result.code == 0, result.err
    assert f"component_{largest}" in result.out


def test_a_run_with_labels_has_its_names_already(
    gmmvae: Gmmvae, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "l.csv").write_text("row,label\n1,a\n")
    refused(gmmvae("name", trained, tmp_path / "l.csv"), "was trained with labels")
    assert not (trained / "names.json").exists()


def test_a_replaced_run_leaves_nothing_of_the_old_one(
    gmmvae: Gmmvae, tmp_path: Path, clustered: Run
) -> None:
    run = tmp_path / "r"
    arguments = ("train", "--data", clustered.config.data, *SMALL, "--labels", 0, "--epochs", 1)
    for _ in range(2):
        assert gmmvae(*arguments, "--out", run, "--force").code == 0
        assert not (run / "names.json").exists()
        assert gmmvae("figures", run, "--only", "clusters,samples,entropy").code == 0
        (run / "figures" / "training.gif").touch()
        (run / "report.html").touch()
        (tmp_path / "l.csv").write_text("component,label\n0,a\n")
        assert gmmvae("name", run, tmp_path / "l.csv", "--allow-unnamed").code == 0
    assert not (tmp_path / "r.replaced").exists()


def test_a_damaged_names_file_is_one_line(gmmvae: Gmmvae, run: Path) -> None:
    (run / "names.json").write_text('{"names": ["a"]}')
    refused(gmmvae("evaluate", run), "names.json", "1 names", "5 components", "delete it")
