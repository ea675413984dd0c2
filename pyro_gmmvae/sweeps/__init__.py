"""Sweeps: many runs compared in one table, numbers of components, and tuning.

``plan_sweep`` combines names, labels and seeds into runs, ``sweep`` trains and evaluates them, and
``summarize`` compares them. ``compare_components`` does so for numbers of components. ``tune``
searches a model's settings with Optuna.
"""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.sweeps.execute import TEST_METRICS, sweep
    from pyro_gmmvae.sweeps.plan import (
        DATA_KEYS,
        RUN_COLUMNS,
        SWEPT_KEYS,
        SweepRun,
        plan_sweep,
        train_command,
    )
    from pyro_gmmvae.sweeps.select_k import candidates, compare_components
    from pyro_gmmvae.sweeps.study import SAMPLERS
    from pyro_gmmvae.sweeps.tables import (
        append_result,
        dot_plot,
        footnotes,
        format_table,
        latest_rows,
        markdown,
        read_results,
        read_stored_results,
        run_keys,
        summarize,
        write_dot_plot,
        write_plane,
        write_tables,
    )
    from pyro_gmmvae.sweeps.tune_report import Tuned
    from pyro_gmmvae.sweeps.tuner import VALIDATION_METRICS, TrialReport, tune
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "DATA_KEYS",
    "RUN_COLUMNS",
    "SAMPLERS",
    "SWEPT_KEYS",
    "TEST_METRICS",
    "VALIDATION_METRICS",
    "SweepRun",
    "TrialReport",
    "Tuned",
    "append_result",
    "candidates",
    "compare_components",
    "dot_plot",
    "footnotes",
    "format_table",
    "latest_rows",
    "markdown",
    "plan_sweep",
    "read_results",
    "read_stored_results",
    "run_keys",
    "summarize",
    "sweep",
    "train_command",
    "tune",
    "write_dot_plot",
    "write_plane",
    "write_tables",
]
