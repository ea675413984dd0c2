"""What ``verbose`` says."""

from pyro_gmmvae.training.settings import Record


class Spoken:
    """Prints a line per epoch, as scikit-learn's estimators do when they are asked to."""

    def on_start(self, about: str) -> None:
        print(about)

    def on_epoch(self, record: Record) -> None:
        shown = [f"epoch {record['epoch']:.0f}", f"{record['seconds']:.1f} s"]
        for name in ("val_elbo", "val_accuracy"):
            if name in record:
                shown.insert(1, f"{name} {record[name]:.4g}")
        print("  ".join(shown))

    def on_end(self, outcome: str) -> None:
        print(outcome)
