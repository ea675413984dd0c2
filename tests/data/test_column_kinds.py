"""Tests of the kinds of columns: found from the cells, given, and refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.data.column_kinds import ColumnReport, infer_columns, parse_overrides
from pyro_gmmvae.data.frames import frame_of
from pyro_gmmvae.errors import GMMVAEError

N = 300
RNG = np.random.default_rng(0)
COLUMNS: dict[str, tuple[Any, str | None]] = {
    "real": (RNG.normal(size=N), "real"),
    "whole": (RNG.integers(-50, 50, N), "real"),
    "rating": (RNG.integers(1, 6, N), "real"),
    "few from 3": (RNG.integers(3, 9, N), "real"),
    "income": (np.exp(RNG.normal(size=N)), "positive"),
    "skewed with zeros": (np.exp(RNG.normal(size=N)).round(1).clip(0.2) - 0.2, "real"),
    "visits": (RNG.poisson(1.5, N), "count"),
    "bursts": (RNG.negative_binomial(1, 0.05, N), "count"),
    "from 1": (1 + RNG.geometric(0.2, N) - 1, "count"),
    "zero or one": (RNG.integers(0, 2, N), "binary"),
    "two numbers": (RNG.choice([10.5, -2], N), "binary"),
    "sex": (RNG.choice(["f", "m"], N), "binary"),
    "truth": (RNG.choice([True, False], N), "binary"),
    "site": (RNG.choice(["A", "B", "C"], N), "category"),
    "many": (RNG.permutation([f"v{k % 100}" for k in range(N)]), "category"),
    "constant": (np.full(N, 4.0), None),
    "one text": (["x"] * N, None),
    "empty": ([None] * N, None),
    "row": (np.arange(N) + 1000, None),
    "shuffled row": (RNG.permutation(N), None),
    "PatientId": (RNG.choice(10**6, N, replace=False), None),
    "name": ([f"name {k}" for k in range(N)], None),
    "comment": (RNG.permutation([f"text {k % 200}" for k in range(N)]), None),
    "day": (pd.date_range("2020-01-01", periods=N), None),
    "us day": (["3/14/2015", "12/1/15"] * (N // 2), None),
    "words": (["14 Mar 2015", "March 1, 2016", "2 dec 16"] * (N // 3), None),
    "clock": (["12:30", "9:05:11", "23:59:59.5"] * (N // 3), None),
    "ranges": (["18-25", "26-35", "<18"] * (N // 3), "category"),
}


def reports_of(overrides: dict[str, str] | None = None, **columns: Any) -> dict[str, ColumnReport]:
    frame = frame_of(
        pd.DataFrame({"x": RNG.normal(size=len(next(iter(columns.values()))))} | columns)
    )
    return {report.name: report for report in infer_columns(frame, overrides)}


@pytest.mark.parametrize(("name", "missing"), [(n, m) for n in COLUMNS for m in (False, True)])
def test_the_kind_of_a_column(name: str, missing: bool) -> None:
    values, kind = COLUMNS[name]
    series = pd.Series(values, name=name)
    if missing and name not in ("row", "shuffled row", "PatientId"):  # every row has its number
        series = series.where(np.arange(N) % 5 > 0)
    report = reports_of(**{name: series})[name]
    assert report.kind == kind, report
    assert report.missing == pytest.approx(series.isna().mean())
    assert (report.column is None) == (kind is None)
    if report.column is not None:
        assert (report.column.name, report.column.kind) == (name, kind)
        assert (report.column.unit, report.column.knots) == (1.0, ())
        assert bool(report.column.values) == (kind in ("binary", "category"))


def test_reasons_name_what_is_left_out() -> None:
    found = reports_of(**{name: values for name, (values, _) in COLUMNS.items()})
    words = {
        "constant": "constant: 4",
        "one text": "constant: 'x'",
        "empty": "every cell is missing",
        "row": "count or name the rows",
        "name": "all different",
        "comment": "200 values in 300 cells",
        "day": "dates such as '2020-01-01'",
    }
    for name, text in words.items():
        assert text in found[name].why
    assert "(d - d.min()).dt.days" in found["day"].why


def test_values_are_sorted_numbers_by_size() -> None:
    found = reports_of(
        {"n": "category"},
        n=[10, 9, 100, 9, 10, 100] * 3,
        t=["b2", "b10", "a", "7", "70", "8"] * 3,
        b=[2.5, -1] * 9,
        f=[False, True] * 9,
    )
    values = {name: report.column.values for name, report in found.items() if report.column}
    assert values["n"] == ("9", "10", "100")
    assert values["t"] == ("7", "8", "70", "a", "b2", "b10")
    assert values["b"] == ("-1", "2.5")
    assert values["f"] == ("False", "True")
    assert (
        "9 cells are numbers, the others texts such as 'b2', 'b10', 'a'" in found["t"].oddities[0]
    )


def test_numbers_with_a_few_texts_are_left_out_and_the_texts_named() -> None:
    values = [*map(str, RNG.normal(size=298)), "low", ">100"]
    report = reports_of(a=values)["a"]
    assert report.kind is None
    assert "but for 2 cells such as 'low', '>100': correct these, or empty them" in report.why


def test_texts_that_differ_in_case_or_blanks_are_odd() -> None:
    report = reports_of(a=["Yes", "yes", "no", "ye s", "no", "No"] * 3)["a"]
    assert "'Yes' and 'yes' and 'ye s', 'no' and 'No' differ in case" in report.oddities[0]


def test_kinds_that_are_given() -> None:
    frame = {
        "a": [1, 2, 3, 3, 2, 1],
        "size": ["mid", "low", "high", "low", "mid", "low"],
        "age": ["18-25", "<18", "26-35", "18-25", "<18", "100+"],
        "n": [0, 5, 2, 2, 0, 1],
        "row": [3.0, 2, 1, 4, 5, 6],
    }
    kinds = {
        "a": "student-t",
        "size": "ordinal( low < mid<high<huge)",
        "age": "ordinal",
        "n": "ordinal",
        "row": "skip",
    }
    found = reports_of(kinds, **frame)
    columns = {name: report.column for name, report in found.items()}
    assert found["a"].kind == "student-t"
    assert found["row"].kind is None
    values = {name: column.values for name, column in columns.items() if column}
    assert values["size"] == ("low", "mid", "high", "huge")
    assert values["age"] == ("<18", "18-25", "26-35", "100+")
    assert values["n"] == ("0", "1", "2", "5")
    sizes = pd.Categorical(frame["size"], ["low", "mid", "high"], ordered=True)
    ordered = reports_of({"size": "ordinal"}, size=sizes)["size"].column
    assert ordered is not None
    assert ordered.values == ("low", "mid", "high")


def test_texts_of_options() -> None:
    texts = ["age=count", "a=b=real", "size=ordinal(a<b, c)", "age = skip"]
    found = {"age": "skip", "a=b": "real", "size": "ordinal(a<b, c)"}
    assert parse_overrides(texts) == found
    for text in ("age", "=real", "age=", "age=two words"):
        with pytest.raises(GMMVAEError, match="is not NAME=KIND"):
            parse_overrides([text])


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("sit", "category", "has no column 'sit'; did you mean 'site'"),
        ("site", "categry", "did you mean 'category'"),
        ("site", "real", r"'site' can't be real: it holds the text 'C', 'B', 'A'"),
        ("whole", "count", "can't be count: it holds -"),
        ("real", "count", "can't be count: it holds"),
        ("whole", "positive", "can't be positive: it holds -"),
        ("site", "binary", "3 different values: 'A', 'B', 'C'"),
        ("real", "category", "300 different values, more than 256"),
        ("name", "category", "more than 256"),
        ("constant", "category", "1 different values"),
        ("empty", "real", "every cell is missing"),
        ("day", "real", r"dates such as '2020-01-01'; write dates as numbers"),
        ("site", "ordinal", r"--column 'site=ordinal\(\w<\w<\w\)'"),
        ("site", "ordinal(A<B)", "the order names 'A', 'B', and it holds 'C'"),
        ("site", "ordinal(A<B<C<A)", "the order names"),
        ("site", "category(A<B)", "an order is for ordinal columns"),
    ],
)
def test_kinds_that_do_not_suit_are_refused(name: str, kind: str, message: str) -> None:
    columns = {name: values for name, (values, _) in COLUMNS.items()}
    with pytest.raises(GMMVAEError, match=message) as caught:
        reports_of({name: kind}, **columns)
    assert "\n" not in str(caught.value)


def test_covariates_are_marked_and_must_be_columns() -> None:
    frame = frame_of(pd.DataFrame({"a": RNG.normal(size=9), "s": [*"xyzxyzxyz"], "c": [1] * 9}))
    given = [report.column.given for report in infer_columns(frame, {}, ["s"]) if report.column]
    assert given == [False, True]
    with pytest.raises(GMMVAEError, match=r"'c' can't be a covariate: it is left out \(constant"):
        infer_columns(frame, {}, ["c"])
    with pytest.raises(GMMVAEError, match="has no column 'ss'; did you mean 's'"):
        infer_columns(frame, {}, ["ss"])
    with pytest.raises(GMMVAEError, match="no column to model"):
        infer_columns(frame, {"a": "skip"}, ["s"])


def test_a_table_without_a_column_to_model_says_why() -> None:
    frame = frame_of(pd.DataFrame({"c": [1] * 9, "name": [*"abcdefghi"], "e": [None] * 9}))
    with pytest.raises(GMMVAEError, match=r"'c' \(constant: 1\).*'e' \(every cell"):
        infer_columns(frame, {"name": "skip"})
