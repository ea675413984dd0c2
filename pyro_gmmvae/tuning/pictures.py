"""Optuna's pictures of a study, drawn without a window."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyro_gmmvae.inference.checkpoint import atomic_write
from pyro_gmmvae.tuning.study import Plan


def write_pictures(study: Any, plan: Plan, keys: Sequence[str]) -> None:
    """Write history.png, slice.png, parallel.png and, with ``keys``, importance.png, contour.png.

    Args:
        study: with a trial that has a value.
        plan: of the study.
        keys: by importance, the first first; none where it isn't known.
    """
    with _without_window():
        from optuna.importance import FanovaImportanceEvaluator
        from optuna.visualization import matplotlib as draw

        named: dict[str, Any] = {"target_name": plan.metric}
        ordered = list(keys) or list(plan.space)
        drawings: dict[str, Callable[[], Any]] = {
            "history": lambda: draw.plot_optimization_history(study, **named),
            "slice": lambda: draw.plot_slice(study, params=ordered, target=_value, **named),
            "parallel": lambda: draw.plot_parallel_coordinate(
                study, params=ordered[:8], target=_value, **named
            ),
        }
        if keys:
            drawings["importance"] = lambda: draw.plot_param_importances(
                study, evaluator=FanovaImportanceEvaluator(seed=0), target=_value, **named
            )
        if len(keys) > 1:
            drawings["contour"] = lambda: draw.plot_contour(
                study, params=list(keys[:2]), target=_value, **named
            )
        for name, drawing in drawings.items():
            _save(plan, name, drawing())


def _value(trial: Any) -> float:
    value: float = trial.value
    return value


def _save(plan: Plan, name: str, drawn: Any) -> None:
    """Write what Optuna drew: an axis, or an array of them."""
    from matplotlib import pyplot

    axes = [drawn] if not hasattr(drawn, "flat") else list(drawn.flat)
    figure = axes[0].figure
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
    pyplot.close(figure)
    atomic_write(plan.out / f"{name}.png", buffer.getvalue())


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
