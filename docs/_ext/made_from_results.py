"""Tables that are made from benchmarks/results whenever the pages are built.

A page says where: ``<!-- made from results: NAME -->`` is replaced by what the function of that
name in ``MADE`` writes, ``<!-- result: FILE.md -->`` by the tables of a stored file.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MARK = re.compile(r"^<!-- (made from results|result): (\S+) -->$", re.MULTILINE)

OURS = (
    *("gmmvae", "gmvae-discrete", "m2", "m2-gumbel", "m1m2", "adgm", "sdgm", "cvae"),
    *("m1", "ae", "vae"),
)
REFERENCES = ("SVM (RBF)", "MLP, labels only", "softmax regression", "1-nearest neighbor")
PROBED = ("ae", "vae")  # have no classifier: the accuracy of a linear probe of z


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def short(value: float, digits: int = 3) -> str:
    """0.9648 -> .965"""
    return f"{value:.{digits}f}".removeprefix("0")


def mean_and_spread(values: "pd.Series[float]") -> str:
    """Mean ± standard deviation over runs; empty where there is none."""
    if values.empty:
        return ""
    if len(values) == 1:
        return short(values.mean())
    return f"{short(values.mean())} ± {short(values.std())}"


def runs_of(data: str) -> pd.DataFrame:
    """The runs of a table of models; settings that differ from the preset's are in `settings`."""
    found = pd.read_csv(RESULTS / data / "results.csv", dtype={"settings": str, "config": str})
    return found.fillna({"settings": "", "preset": ""})


def accuracies(runs: pd.DataFrame, model: str, labels: int, **keys: Any) -> "pd.Series[float]":
    """Test accuracies of one model, with the last result of each seed."""
    chosen = runs[(runs.model == model) & (runs.labels == labels)]
    if model in OURS:
        for key, value in keys.items():
            chosen = chosen[chosen[key] == value]
    chosen = chosen.drop_duplicates("seed", keep="last")
    return chosen["probe_accuracy" if model in PROBED else "accuracy"].dropna()


# lines of the README: data, model, name
SHORT = (
    ("digits", "gmmvae", "digits: `gmmvae`"),
    ("digits", "m2", "`m2`"),
    ("mnist", "gmmvae", "MNIST, 10 minutes: `gmmvae`"),
)
DIGITS = {"preset": "best", "settings": ""}
MNIST = {"preset": "permutation-invariant", "settings": "minutes=1.5"}


def accuracy() -> str:
    """Every model on digits and MNIST, beside published figures."""
    digits, mnist = runs_of("digits"), runs_of("mnist")
    published = pd.read_csv(ROOT / "benchmarks" / "published.csv")
    rows = []
    for model in (*OURS, *REFERENCES):
        cells = [mean_and_spread(accuracies(digits, model, 100, **DIGITS))]
        cells += [mean_and_spread(accuracies(mnist, model, n, **MNIST)) for n in (100, 1000)]
        errors = published[(published.model == model) & published.labels.isin([100, 1000])]
        name = f"`{model}`" if model in OURS else model
        cells.append(", ".join(short(1 - e / 100) for e in errors.error))
        rows.append([name + (" *" if model in PROBED else ""), *cells])
    head = ["", "digits 100", "MNIST 100", "MNIST 1,000"]
    return table([*head, "published, MNIST 100, 1,000"], rows)


def accuracy_short() -> str:
    """The lines of the README: models as classifiers and as generators."""
    rows = []
    for data, model, name in SHORT:
        runs = pd.read_csv(RESULTS / "generation" / data / "results.csv")
        of_model = runs[runs.model == model].drop_duplicates("seed", keep="last")
        cells = [mean_and_spread(of_model[key].dropna()) for key in SHARES[:3]]
        rows.append([name, *cells])
    labels_only = accuracies(runs_of("digits"), "SVM (RBF)", 100)
    rows.insert(2, ["SVM on the labels", mean_and_spread(labels_only), "", ""])
    rows += [[f"{text}`{m}`" if m == "gmmvae" else m, few_labels(m), "", ""] for text, m in TABLES]
    return table(["", "accuracy", "draws recognized", "recall"], rows)


TABLES = (("ten tables, 10 labels a class: ", "gmmvae"), ("", "ExtraTrees"))


def few_labels(method: str, labels: int = 10) -> str:
    """The mean accuracy of a method over the tables, on the draws that gmmvae was measured on."""
    means = []
    for file in sorted(RESULTS.glob(f"tables/*-{labels}.json")):
        measured = json.loads(file.read_text())["measured"]
        draws = measured["gmmvae"].keys() & measured[method].keys()
        means.append(sum(measured[method][draw]["accuracy"] for draw in draws) / len(draws))
    return f"{sum(means) / len(means):.3f}".removeprefix("0")


SIZES = {
    "batch_100": "batch 100",
    "batch_100_third_epoch": "after 1,200 steps",
    "batch_200": "batch 200",
    "batch_1000": "batch 1,000",
    "tiny_batch_100": "32 units, d 8",
}
STEPS = {
    "stock": "stock `SVI.step`, DataLoader",
    "svi_fused": "Trace_ELBO, one fused Adam",
    "raw": "hand-written PyTorch, one fused Adam",
    "raw_compiled": "the same under `torch.compile`",
    "captured": "`captured`",
    "compiled": "`compiled`",
    "compiled_bf16": "`compiled`, bf16",
}


def _milliseconds() -> dict[str, dict[str, float]]:
    content: dict[str, Any] = json.loads((RESULTS / "speed.json").read_text())
    return content["ms"]


def speed() -> str:
    """Milliseconds of a training step, and how many times faster than stock Pyro."""
    found, rows = _milliseconds(), []
    for step, name in STEPS.items():
        cells = []
        for size in SIZES:
            ms, stock = found[size][step], found[size]["stock"]
            shown = f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}"
            cells.append(shown if step == "stock" else f"{shown} ({stock / ms:.1f})")
        rows.append([name, *cells])
    return table(["", *SIZES.values()], rows)


def speed_short() -> str:
    """The README's lines: a step's time relative to stock Pyro."""
    found = _milliseconds()
    sizes = {"batch_100": "100", "batch_200": "200", "batch_1000": "1,000"}
    rows = [
        [f"`{step}`", *(f"{found[s][step] / found[s]['stock']:.2f}" for s in sizes)]
        for step in ("captured", "compiled")
    ]
    return table(["batch size", *sizes.values()], rows)


def startup() -> str:
    """Seconds from the command to the first step."""
    content = json.loads((RESULTS / "startup.json").read_text())
    rows = [[name.replace("_", ", "), f"{s:.1f}"] for name, s in content["seconds"].items()]
    return table(["engine", "seconds"], rows)


SHARES = ("accuracy", "recognized", "recall", "precision")


def _rounded(values: "pd.Series[float]", digits: int) -> str:
    return "" if values.dropna().empty else f"{values.mean():.{digits}f}"


def generation() -> str:
    """Models as classifiers and as generators, a table for each data set that was measured."""
    parts = []
    for file in sorted(RESULTS.glob("generation/*/results.csv")):
        runs, rows = pd.read_csv(file), []
        for model, of_model in runs.groupby("model", sort=False):
            of_model = of_model.drop_duplicates("seed", keep="last")
            cells = [mean_and_spread(of_model[key].dropna()) for key in SHARES]
            cells += [_rounded(of_model["nll"], 1), _rounded(of_model["seconds"], 0)]
            rows.append([f"`{model}`" if model in OURS else str(model), *cells])
        real = runs.iloc[0]
        shares = (real.judge_accuracy, real.recall_reference, real.precision_reference)
        rows.append(["real rows", "", *map(short, shares), "", ""])
        parts += [f"**{file.parent.name}**", table(["", *SHARES, "nll", "seconds"], rows)]
    return "\n\n".join(parts) or "Nothing has been measured yet."


def gpu() -> str:
    """What was measured on each GPU: a table for the times of a file, a line for its checks."""
    parts = []
    for folder in sorted(path for path in RESULTS.glob("gpu/*") if path.is_dir()):
        files = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
        for content in (c for c in files if "found" in c):
            machine, found = content["machine"], content["found"]
            torch = machine["packages"]["torch"]
            about = f"**{machine['device']}, torch {torch}: {content['mode']}**"
            if content["script"] == "gpu_smoke":
                bad = content["complaints"]
                text = f"{len(found) - len(bad)} of {len(found)} checks passed"
                parts.append(f"{about}: {text}{'; not: ' if bad else ''}{', '.join(bad)}.")
            else:
                parts += [about, _numbers(found)]
    return "\n\n".join(parts) or "Nothing: no CUDA device has run this code yet."


def _numbers(found: dict[str, dict[str, Any]]) -> str:
    """A row for each result, a column for each number that one of them has."""
    numbers = [
        {name: v for name, v in result.items() if isinstance(v, int | float)}
        for result in found.values()
    ]
    columns = list(dict.fromkeys(name for result in numbers for name in result))
    rows = []
    for (name, result), own in zip(found.items(), numbers, strict=True):
        cells = [f"{own[c]:.4g}" if c in own else "" for c in columns]
        rows.append([name + (" (failed)" if "error" in result else ""), *cells])
    return table(["", *columns], rows)


MADE: dict[str, Callable[[], str]] = {
    f.__name__: f for f in (accuracy, accuracy_short, generation, gpu, speed, speed_short, startup)
}


def stored(name: str) -> str:
    """A stored file of tables; its headings become bold lines, so that a page keeps its outline."""
    text = (RESULTS / name).read_text().strip()
    return re.sub(r"^#+ (.*)$", r"**\1**", text, flags=re.MULTILINE)


def fill(text: str) -> str:
    """Replace the marks of a page."""
    return MARK.sub(lambda m: stored(m[2]) if m[1] == "result" else MADE[m[2]](), text)


def _fill(app: Any, docname: str, source: list[str]) -> None:  # noqa: ARG001
    source[0] = fill(source[0])


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
