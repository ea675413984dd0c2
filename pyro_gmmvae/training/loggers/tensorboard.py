"""Event files for TensorBoard, in the run folder."""

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyro_gmmvae.errors import missing_extra
from pyro_gmmvae.training.loggers.base import named, tagged

VERSION = "brain.Event:2"  # from which on a session's start purges


class TensorBoardLogger:
    """Writes RUN/tensorboard: scalars by optimizer step and wall time, the config as text.

    Each epoch is on the disk before the next begins. A fit that goes on from a checkpoint begins
    another event file, which purges the steps that the checkpoint did not have. The config is
    also told to the HParams plugin, which compares the runs under a ``--logdir``.

    Summaries are those of ``torch.utils.tensorboard``. Its ``SummaryWriter`` writes in a thread,
    where a full disk ends the thread with a traceback; here it is an error of the fit.

    Raises:
        GMMVAEError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise missing_extra("log=tensorboard", "TensorBoard", "tensorboard") from error
        self.folder, self.config = folder / "tensorboard", config
        self._about: list[str] = []
        self._records: Any = None

    def on_start(self, about: str) -> None:
        with named(str(self.folder)):
            self.folder.mkdir(exist_ok=True)  # before an epoch is fitted for nothing
        self._about.append(about)

    def on_epoch(self, record: dict[str, float]) -> None:
        from torch.utils.tensorboard.summary import scalar

        step = int(record["step"])
        with named(str(self.folder)):
            if self._records is None:
                self._open(step)
            for tag, value in tagged(record).items():
                self._write(step=step, summary=scalar(tag, value))
            self._records.flush()

    def on_end(self, outcome: str) -> None:
        """Nothing: the last epoch is written."""

    def close(self) -> None:
        records, self._records = self._records, None
        if records is not None:
            with named(str(self.folder)):
                records.close()

    def _open(self, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import hparams, text

        self.folder.mkdir(exist_ok=True)
        # TensorBoard reads a folder's files in the order of their names
        number, begun = len(list(self.folder.iterdir())), int(time.time())
        name = f"events.out.tfevents.{begun:010d}.{platform.node()}.{os.getpid()}.{number}"
        self._records = RecordWriter((self.folder / name).open("xb"))
        self._write(file_version=VERSION)
        self._write(step=step, session_log=SessionLog(status=SessionLog.START))
        lines = json.dumps(dict(self.config), indent=2).splitlines()
        # Markdown: paragraphs, and a block that is indented
        about, config = "\n\n".join(self._about), "\n".join(f"    {line}" for line in lines)
        for tag, content in (("about", about), ("config", config)):
            self._write(step=step, summary=text(tag, content))
        for summary in hparams({key: _plain(value) for key, value in self.config.items()}, {})[:2]:
            self._write(step=step, summary=summary)

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **event).SerializeToString())


def _plain(value: Any) -> int | float | str:
    """A value as the HParams plugin takes it."""
    if isinstance(value, int | float | str):
        return value
    return "none" if value is None else ",".join(map(str, value))
