"""Summaries of sweeps, compared with SciPy and with numbers by hand."""

from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from benchmarks.figures.error_curves import error_curves
from pyro_gmmvae.sweeps import (
    dot_plot,
    format_table,
    markdown,
    summarize,
    write_dot_plot,
    write_plane,
)
from pyro_gmmvae.sweeps.tables import latex, plane


def rows(model: str, accuracies: list[float], labels: str = "100") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "data": "digits",
            "labels": labels,
            "model": model,
            "guide": "",
            "objective": "analytic",
            "preset": "best",
            "settings": "",
            "seed": range(len(accuracies)),
            "accuracy": accuracies,
            "elbo": -30.0,
            "nll": 28.0,
            "pareto_k_bad": 0.5,
            "seconds": 2.0,
        }
    )


FIRST, SECOND = [0.90, 0.92, 0.94], [0.91, 0.94, 0.95]


def test_differences_are_paired_over_seeds() -> None:
    summary = summarize(pd.concat([rows("a", FIRST), rows("b", SECOND)]))
    assert summary["model"].tolist() == ["a", "b"]
    assert summary["mean"].tolist() == pytest.approx([0.92, 2.8 / 3])
    assert summary["std"].iloc[0] == pytest.approx(0.02)
    interval = stats.ttest_rel(SECOND, FIRST).confidence_interval(0.95)
    second = summary.iloc[1]
    assert second["difference"] == pytest.approx(0.04 / 3)
    assert (second["low"], second["high"]) == pytest.approx((interval.low, interval.high))
    assert pd.isna(summary["difference"].iloc[0])


def test_only_seeds_that_both_have_are_compared() -> None:
    summary = summarize(pd.concat([rows("a", FIRST), rows("b", SECOND[:2])]))
    assert summary["n"].tolist() == [3, 2]
    assert summary["difference"].iloc[1] == pytest.approx(0.015)


def test_each_label_count_has_a_reference_of_its_own() -> None:
    parts = [rows(m, v, k) for k in ("50", "100") for m, v in (("a", FIRST), ("b", SECOND))]
    summary = summarize(pd.concat(parts))
    assert summary["difference"].isna().tolist() == [True, False, True, False]


def test_one_seed_has_no_spread_and_no_interval() -> None:
    text = format_table(summarize(pd.concat([rows("a", [0.9]), rows("b", [0.8])])))
    assert text["accuracy"].tolist() == ["0.9000", "0.8000"]
    assert text["difference to the first (95 %)"].tolist() == ["", "-0.1000"]


def test_columns_with_one_value_are_left_out() -> None:
    text = format_table(summarize(pd.concat([rows("a", FIRST), rows("b", SECOND)])))
    assert list(text.columns)[:2] == ["model", "accuracy"]


def test_markdown_and_latex_hold_every_line() -> None:
    text = format_table(summarize(pd.concat([rows("m2_x", FIRST), rows("b", SECOND)])))
    assert len(markdown(text).splitlines()) == 4
    assert r"m2\_x" in latex(text)
    assert r"\toprule" in latex(text)


def test_error_curves_draws_a_line_per_model() -> None:
    parts = [rows(m, v, k) for k in ("50", "100") for m, v in (("a", FIRST), ("b", SECOND))]
    figure = error_curves(summarize(pd.concat(parts)))
    assert len(figure.axes[0].containers) == 2
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["50", "100"]


def test_any_metric_keeps_its_spread() -> None:
    table = rows("a", FIRST).assign(elbo=[-1.0, -2.0, -3.0])
    assert format_table(summarize(table, "elbo"), "elbo")["elbo"].tolist() == ["-2.0000 ± 1.0000"]


def lines_of(table: pd.DataFrame, metric: str = "accuracy") -> list[str]:
    figure = dot_plot(table, metric)
    assert figure is not None
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_lines_are_named_by_the_columns_that_distinguish_them() -> None:
    """The objective follows from the guide, and is left out."""
    table = pd.concat(
        [
            rows("a", FIRST).assign(guide="product"),
            rows("a", SECOND).assign(guide="flow", objective="trace"),
        ]
    )
    assert lines_of(table) == ["flow", "product"]
    both = pd.concat([table, rows("b", FIRST).assign(guide="flow")])
    assert set(lines_of(both)) == {"a flow", "a product", "b flow"}
    figure = dot_plot(table)
    assert figure is not None
    title = figure.get_suptitle()
    assert title.startswith("digits, 100 labels, a, preset best\n")
    assert title.endswith("dashed: product")


def test_the_dot_plot_has_a_panel_per_label_count() -> None:
    parts = [rows(m, v, k) for k in ("50", "1") for m, v in (("a", FIRST), ("b", SECOND))]
    figure = dot_plot(pd.concat(parts))
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == ["50 labels", "1 label"]
    assert lines_of(rows("a", FIRST)) == ["a"]


def test_low_values_of_some_metrics_are_better() -> None:
    table = pd.concat([rows("a", FIRST).assign(nll=20.0), rows("b", SECOND).assign(nll=10.0)])
    assert lines_of(table, "nll") == ["b", "a"]
    assert lines_of(table) == ["b", "a"]


def test_a_metric_without_values_removes_the_old_picture(tmp_path: Path) -> None:
    table = rows("a", FIRST)
    write_dot_plot(table, tmp_path)
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    write_dot_plot(table.assign(accuracy=None), tmp_path)
    assert not (tmp_path / "table.png").exists()


def in_plane() -> pd.DataFrame:
    parts = [
        rows("vae", FIRST).assign(settings=f"epochs=3{words}", rate=rate, distortion=90 - rate)
        for words, rate in (("", 20.0), (" kl_z=4", 9.0), (" kl_z=10", 5.0), (" tc=5", 12.0))
    ]
    return pd.concat([*parts, rows("ae", FIRST).assign(settings="epochs=3", rate=None)])


def test_the_plane_has_a_number_for_each_line_and_a_path_for_each_term() -> None:
    figure = plane(in_plane(), "accuracy")
    assert figure is not None
    axes, legend, _ = figure.axes
    numbers = {text.get_text(): text.xy for text in axes.texts}  # type: ignore[attr-defined]
    assert numbers["1"] == (20, 70)
    assert numbers["3"] == (5, 85)
    assert len(numbers) == 4, "a model without a rate is left out"
    lines = [line.split(maxsplit=1) for line in legend.texts[0].get_text().splitlines()]
    assert lines == [["1", "as it is"], ["2", "kl_z=4"], ["3", "kl_z=10"], ["4", "tc=5"]]
    paths = [line.get_xdata() for line in axes.lines if line.get_linestyle() == "-"]
    assert sorted(map(len, paths)) == [1, 1, 2]
    assert "epochs=3" in figure.get_suptitle()
    words = in_plane().assign(settings=[f"prior={n}" for n in "abcde" for _ in range(3)])
    other = plane(pd.concat([words, words.assign(labels="20")]), "accuracy")
    assert other is not None
    assert all(
        len(line.get_xdata()) == 1 for line in other.axes[0].lines if line.get_linestyle() == "-"
    )
    first = other.axes[1].texts[0].get_text().splitlines()[0]
    assert first.split() == ["1", "100", "labels,", "prior=a"]


def test_without_a_rate_there_is_no_plane(tmp_path: Path) -> None:
    table = in_plane()
    assert write_plane(table, tmp_path, "accuracy")
    assert (tmp_path / "plane.png").read_bytes().startswith(b"\x89PNG")
    assert not write_plane(table[table["model"] == "ae"], tmp_path, "accuracy")
