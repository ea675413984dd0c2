"""Optuna's pictures of a study, drawn without a window."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.sweeps.study import Plan

MOST_KEYS = 6  # in a picture with a column for each


def write_pictures(study: Any, plan: Plan, keys: Sequence[str]) -> None:
    """Write history.png, slice.png, parallel.png and, with ``keys``, importance.png, contour.png.

    Args:
        study: with a trial that has a value.
        plan: of the study.
        keys: by importance, the first first; none where it isn't known.
    """
    with _without_window():
        from matplotlib import pyplot
        from optuna.importance import FanovaImportanceEvaluator
        from optuna.visualization import matplotlib as draw

        named: dict[str, Any] = {"target_name": plan.metric}
        ordered = (list(keys) or list(plan.space))[:MOST_KEYS]
        drawings: dict[str, Callable[[], Any]] = {
            "history": lambda: draw.plot_optimization_history(study, **named),
            "slice": lambda: draw.plot_slice(study, params=ordered, **named),
            "parallel": lambda: draw.plot_parallel_coordinate(study, params=ordered, **named),
        }
        if keys:
            drawings["importance"] = lambda: draw.plot_param_importances(
                study, evaluator=FanovaImportanceEvaluator(seed=0), **named
            )
        if len(keys) > 1:
            drawings["contour"] = lambda: draw.plot_contour(study, params=list(keys[:2]), **named)
        for name, drawing in drawings.items():
            drawn = drawing()
            figure = (drawn.flat[0] if hasattr(drawn, "flat") else drawn).figure
            _mend(figure, name)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
            pyplot.close(figure)
            atomic_write(plan.out / f"{name}.png", buffer.getvalue())


def _mend(figure: Any, name: str) -> None:
    """Leave out labels that cover each other, and the grids of axes that lie upon others."""
    from matplotlib.ticker import LogLocator, NullFormatter

    is_parallel = name == "parallel"
    if is_parallel:
        figure.set_size_inches(1.6 * len(figure.axes), 5)
    for axes in figure.axes:
        if is_parallel:
            axes.grid(visible=False)
            axes.set_facecolor("white")
        if name == "slice":
            axes.tick_params(axis="x", labelrotation=45)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() != "log":
                continue
            low, high = axis.get_view_interval()
            if high / low < 100:  # powers of ten would be too few
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())


@contextmanager
def _without_window() -> Iterator[None]:
    """Optuna draws by pyplot, in a style that it sets for all: both are put back."""
    import matplotlib
    from matplotlib import pyplot

    before = matplotlib.get_backend()
    try:
        with matplotlib.rc_context(), warnings.catch_warnings():
            # Optuna's drawings are "experimental", and stretch axes of a single value
            warnings.simplefilter("ignore")
            pyplot.switch_backend("agg")
            yield
    finally:
        pyplot.switch_backend(before)
