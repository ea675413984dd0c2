"""Event files for TensorBoard, in the run folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_gmmvae.errors import missing_extra
from pyro_gmmvae.loggers.base import named, tagged

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLogger:
    """Writes RUN/tensorboard: scalars by optimizer step and wall time, the config as text.

    Each epoch is on the disk before the next begins. A fit that goes on from a checkpoint begins
    another event file, which purges the steps that the checkpoint did not have. The config is
    also told to the HParams plugin, which compares the runs under a ``--logdir``.

    Raises:
        GMMVAEError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise missing_extra("log tensorboard", "TensorBoard", "tensorboard") from error
        self.folder, self.config = folder / "tensorboard", config
        self._about: list[str] = []
        self._writer: SummaryWriter | None = None

    def on_start(self, about: str) -> None:
        self._about.append(about)

    def on_epoch(self, record: dict[str, float]) -> None:
        step = int(record["step"])
        with named(str(self.folder)):
            if self._writer is None:
                self._writer = self._open(step)
            for tag, value in tagged(record).items():
                self._writer.add_scalar(tag, value, step)
            self._writer.flush()

    def on_end(self, outcome: str) -> None:
        """Nothing: the last epoch is written."""

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with named(str(self.folder)):
                writer.close()

    def _open(self, step: int) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        writer = SummaryWriter(str(self.folder), purge_step=step)
        writer.add_text("about", "\n\n".join(self._about), step)
        content = json.dumps(dict(self.config), indent=2)
        writer.add_text("config", "\n".join(f"    {line}" for line in content.splitlines()), step)
        for summary in hparams({key: _plain(value) for key, value in self.config.items()}, {})[:2]:
            writer.file_writer.add_summary(summary)
        return writer


def _plain(value: Any) -> int | float | str:
    """A value as the HParams plugin takes it."""
    if isinstance(value, int | float | str):
        return value
    return "none" if value is None else ",".join(map(str, value))
