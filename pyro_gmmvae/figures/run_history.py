"""How the fit went."""

from matplotlib.figure import Figure

from pyro_gmmvae.config import Schedule
from pyro_gmmvae.figures.history import training_curves
from pyro_gmmvae.figures.run_view import View


def draw_training(view: View) -> Figure:
    """Every number of ``history.csv``, and the schedules that moved."""
    history = view.history
    seconds = history["seconds"].max() if "seconds" in history else float("nan")
    spent = f", {seconds:.0f} s" if seconds == seconds else ""
    epochs = int(history["epoch"].max())
    config = view.run.config
    title = (
        f"{view.name}: {epochs} epoch{'s' if epochs > 1 else ''} of {config.model} on "
        f"{config.data}{spent}"
    )
    return training_curves(history, title, _schedules(view))


def _schedules(view: View) -> dict[str, list[float]]:
    """Values at the end of each epoch of what moved, by the configuration."""
    moved = {}
    sites = view.model.latents
    if "step" not in view.history:
        return {}
    for key, schedule in view.run.config:
        if not isinstance(schedule, Schedule):
            continue
        is_weight = key.startswith("kl_")
        if is_weight and key.removeprefix("kl_") not in sites:
            continue  # of a preset that several models share
        values = [schedule(int(step)) for step in view.history["step"].fillna(0)]
        if len(set(values)) > 1:
            name = key.replace("_", " ")
            moved[f"weight of KL({key[3:]})" if is_weight else name] = values
    return moved
