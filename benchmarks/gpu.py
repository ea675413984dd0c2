"""Stages of measurements on a GPU: lists of commands, the most valuable first, within a time.

    python benchmarks/gpu.py first --out DIR [--seconds 555] [--dry]

Each command prints to a log of its own. When it ends, DIR/summary.txt gets a line with its seconds
and its exit code, and all files go into DIR/results.tar.gz: a stage that is cut off keeps what it
had. Timed commands run alone, the others side by side. ``scripts/gpu`` runs a stage on a machine
without a network.
"""

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

PACKING_SECONDS = 12
KILL_AFTER = 8  # seconds between SIGTERM and SIGKILL
MAX_BYTES = 4_000_000  # larger files, such as checkpoints, are not packed
MODELS = "gmmvae,gmvae-discrete,m1,m2,m2-gumbel,m1m2,adgm,sdgm,vae,cvae"


@dataclass(frozen=True)
class Task:
    """A command of a stage.

    Attributes:
        name: the name of its log.
        command: shell words; {work} is a folder for files that come back, {python} the interpreter.
        seconds: it is stopped after so many seconds.
        alone: nothing else runs meanwhile.
    """

    name: str
    command: str
    seconds: int
    alone: bool = False


def _smoke(mode: str, seconds: int, *, alone: bool = False) -> Task:
    command = f"{{python}} benchmarks/gpu_smoke.py {mode} {{work}}/{mode}.json"
    return Task(mode, command, seconds, alone)


def _speed(name: str, options: str, seconds: int) -> Task:
    command = f"{{python}} benchmarks/speed.py {options} --device cuda --threads 8"
    return Task(name, f"{command} --out {{work}}/{name}.json", seconds, alone=True)


def _accuracy(name: str, options: str, seconds: int) -> Task:
    command = (
        f"{{python}} benchmarks/accuracy.py --data mnist --device cuda --no-references {options}"
    )
    return Task(name, f"{command} --out {{work}}/{name}", seconds)


GMMVAE = "{python} -m pyro_gmmvae"
STAGES: dict[str, list[Task]] = {
    # does it run, is it right, how fast is it: 9 minutes
    "first": [
        Task(
            "machine",
            "nvidia-smi; {python} -m pip list 2>/dev/null | head -200; nvcc --version; "
            "gcc --version; free -g; nproc",
            30,
        ),
        _smoke("ceilings", 60, alone=True),
        _smoke("captured", 200),
        _smoke("compiled", 240),
        _smoke("svi", 120),
        _smoke("resume", 120),
        Task(
            "tests",
            "{python} -m pytest -o filterwarnings=default -q -n 8 --device cuda "
            "-p no:cacheprovider tests/training tests/distributions tests/objectives "
            "tests/networks tests/models tests/evaluation",
            330,
        ),
        _speed("speed-quick", "--quick", 230),
        Task(
            "best",
            f"{GMMVAE} train --data mnist --preset best --device cuda --out {{work}}/best && "
            f"{GMMVAE} evaluate {{work}}/best",
            120,
            alone=True,
        ),
    ],
    # times for the documentation
    "speed": [_smoke("steps", 150, alone=True), _speed("speed", "", 400)],
    # all models on MNIST, ten draws of 100 labels
    "tables": [
        _accuracy(
            "mnist-100", f"--labels 100 --seeds 10 --models {MODELS} --jobs 8 --epochs 10", 330
        ),
        _accuracy(
            "mnist-best", "--labels 100 --seeds 10 --models gmmvae --preset best --jobs 8", 220
        ),
    ],
    # as long as one stage lasts, for the published comparison; started again, runs are resumed
    "published": [
        _accuracy(f"long-{model}", f"--labels 100 --seeds 1 --models {model} --minutes 8", 545)
        for model in ("m2", "m1m2", "adgm", "sdgm", "gmmvae")
    ],
    "scaling": [_smoke("scaling", 300, alone=True), _smoke("memory", 120, alone=True)],
}


class Running:
    """A task under way, with its log."""

    def __init__(self, task: Task, work: Path, limit: float) -> None:
        self.task, self.began = task, time.monotonic()
        self.ends = self.began + min(task.seconds, limit)
        self.log = (work / f"{task.name}.log").open("wb")
        command = task.command.replace("{work}", str(work)).replace("{python}", sys.executable)
        self.log.write(f"$ {command}\n".encode())
        self.log.flush()
        self.process = subprocess.Popen(
            ["bash", "-c", command],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.stopped = False

    def poll(self) -> str | None:
        """A line on how the task ended, or None; stops a task that takes too long."""
        code, now = self.process.poll(), time.monotonic()
        if code is None and now > self.ends and not self.stopped:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.stopped = True
        elif code is None and self.stopped and now > self.ends + KILL_AFTER:
            os.killpg(self.process.pid, signal.SIGKILL)
        if code is None:
            return None
        self.log.close()
        how = "stopped" if self.stopped else f"exit {code}"
        return f"{self.task.name}: {how} after {now - self.began:.0f} s"


def run(tasks: list[Task], out: Path, seconds: float, side_by_side: int) -> None:
    """Run tasks in their order; those that are not alone run side by side."""
    began, work = time.monotonic(), out.parent / f"{out.name}-work"
    work.mkdir(parents=True, exist_ok=True)
    waiting, running = list(tasks), list[Running]()

    def seconds_left() -> float:
        return seconds - PACKING_SECONDS - (time.monotonic() - began)

    def log(line: str) -> None:
        print(line, flush=True)
        with (out / "summary.txt").open("a") as file:
            file.write(line + "\n")

    while waiting or running:
        for one in list(running):
            ended = one.poll()
            if ended is None:
                continue
            running.remove(one)
            log(f"[{time.monotonic() - began:4.0f} s] {ended}")
            for line in last_lines(work / f"{one.task.name}.log", 6):
                log(f"      {line[:220]}")
            pack(work, out)
        busy = any(one.task.alone for one in running)
        while waiting and not busy and len(running) < side_by_side and seconds_left() > 10:
            if waiting[0].alone and running:
                break
            running.append(Running(waiting.pop(0), work, seconds_left()))
            busy = running[-1].task.alone
        if waiting and not running and seconds_left() <= 10:
            log(f"no time left for {', '.join(task.name for task in waiting)}")
            break
        time.sleep(0.3)
    pack(work, out)


def last_lines(file: Path, count: int) -> list[str]:
    """The last lines of a log that are not empty."""
    text = file.read_bytes()[-4000:].decode(errors="replace").splitlines()
    return [line for line in text if line.strip()][-count:]


def pack(work: Path, out: Path) -> None:
    """Put all small files into one: few files are easier to bring back."""
    temporary = out / ".results"
    with tarfile.open(temporary, "w:gz") as archive:
        for file in sorted(work.rglob("*")):
            is_array = file.suffix in (".pt", ".npy")
            if file.is_file() and not is_array and file.stat().st_size < MAX_BYTES:
                archive.add(file, file.relative_to(work))
    temporary.rename(out / "results.tar.gz")


def main(arguments: list[str]) -> None:
    """Run a stage, or one of its tasks."""
    names = [task.name for tasks in STAGES.values() for task in tasks]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=[*STAGES, *names], metavar="STAGE|TASK")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seconds", type=float, default=555, help="time of the whole stage")
    parser.add_argument("--side-by-side", type=int, default=5, help="tasks at once")
    parser.add_argument("--dry", action="store_true", help="print the commands, and run none")
    options = parser.parse_args(arguments)
    single = [t for tasks in STAGES.values() for t in tasks if t.name == options.stage]
    tasks = STAGES.get(options.stage) or single
    if options.dry:
        for task in tasks:
            alone = "alone" if task.alone else "     "
            print(f"{task.seconds:4d} s  {alone} {task.name}: {task.command}")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    run(tasks, options.out, options.seconds, options.side_by_side)


if __name__ == "__main__":
    main(sys.argv[1:])
