"""Stages of measurements on a GPU: lists of commands, the most valuable first, within a time.

    python benchmarks/gpu.py first --out DIR [--seconds 555] [--dry]
    python benchmarks/gpu.py first --out DIR --device cpu --quick
    python benchmarks/gpu.py keep --out DIR

Each command prints to a log of its own. When it ends, DIR/summary.txt gets a line with its seconds
and its exit code. DIR/results.tar.gz is written again every 20 seconds, whole each time: a stage
that is cut off keeps what it had. Timed commands run alone, the others side by side. With --quick
each command is the same at toy size, which shows only that it runs. ``keep`` takes the results out
of DIR into benchmarks/results/gpu, to a folder with the device's name. ``scripts/gpu`` runs a stage
on a machine without a network.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "gpu"
PACKING_SECONDS = 12
PACK_EVERY = 20  # seconds
KILL_AFTER = 8  # seconds between SIGTERM and SIGKILL
MAX_BYTES = 4_000_000  # larger files, such as checkpoints, are not packed
MODELS = "gmmvae,gmvae-discrete,m1,m2,m2-gumbel,m1m2,adgm,sdgm,vae,cvae"


@dataclass(frozen=True)
class Task:
    """A command of a stage.

    Attributes:
        name: the name of its log.
        command: shell words; {work} is a folder for files that come back, {python} the interpreter,
            {device} the device, and {toy} the place of options for a toy size.
        seconds: it is stopped after so many seconds.
        alone: nothing else runs meanwhile.
        toy: options that make it a toy, in the place of {toy}.
    """

    name: str
    command: str
    seconds: int
    alone: bool = False
    toy: str = ""

    def filled(self, work: Path, device: str, quick: bool) -> str:
        """The command for the shell."""
        values = {"work": str(work), "python": sys.executable, "device": device}
        values["toy"] = self.toy if quick else ""
        return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], self.command)


def _check(mode: str, seconds: int) -> Task:
    options = f"{mode} --device {{device}} --out {{work}}/{mode}.json {{toy}}"
    return Task(mode, f"{{python}} benchmarks/gpu_smoke.py {options}", seconds, toy="--quick")


def _time(mode: str, seconds: int, script: str = "gpu_speed") -> Task:
    options = f"{mode} --device {{device}} --out {{work}}/{mode}.json {{toy}}"
    command = f"{{python}} benchmarks/{script}.py {options}"
    return Task(mode, command, seconds, alone=True, toy="--quick")


def _accuracy(name: str, options: str, seconds: int, toy: str = "--epochs 1") -> Task:
    command = (
        "{python} benchmarks/accuracy.py --data mnist --labels 100 --device {device} "
        f"--no-references {options} --out {{work}}/{name} {{toy}}"
    )
    # the last one of an option that is given twice counts
    toy += " --seeds 1 --jobs 1 --set validation=50 --set hidden=8 --set batch_size=100"
    return Task(name, command, seconds, toy=toy)


GMMVAE = "{python} -m pyro_gmmvae"
TESTS = " ".join(
    f"tests/{folder}"
    for folder in ("training", "distributions", "objectives", "networks", "models", "evaluation")
)
MACHINE = Task(
    "machine",
    "nvidia-smi; {python} -m pip list 2>/dev/null | head -200; nvcc --version; "
    "gcc --version; free -g; nproc",
    30,
)
STAGES: dict[str, list[Task]] = {
    # does it run, is it right, how fast is it: 9 minutes
    "first": [
        MACHINE,
        _time("ceilings", 40),
        _check("captured", 150),
        _check("agree", 120),
        _check("moved", 120),
        _check("resume", 150),
        _time("steps", 170),
        Task(
            "best",
            f"{GMMVAE} train --data mnist --preset best --device {{device}} --out {{work}}/best "
            f"{{toy}} && {GMMVAE} evaluate {{work}}/best",
            100,
            alone=True,
            toy="--epochs 1 --set validation=50 --set hidden=8",
        ),
        Task(
            "tests",
            "{python} -m pytest -o filterwarnings=default -q -n 8 --device {device} "
            f"-p no:cacheprovider {TESTS} {{toy}}",
            300,
            toy="-n 0 -k test_optimizer",
        ),
        _check("svi", 120),
        _check("compiled", 240),
    ],
    # times for the documentation
    "speed": [
        MACHINE,
        _time("target", 280, "gpu_runs"),
        Task(
            "side-by-side",
            "{python} benchmarks/side_by_side.py --device {device} --fits 1,4,32 "
            "--out {work}/side-by-side.json {toy}",
            150,
            alone=True,
            toy="--quick",
        ),
        _time("answers", 90, "gpu_runs"),
        _time("components", 240),
        _time("batches", 120),
        Task(
            "speed-quick",
            "{python} benchmarks/speed.py --quick --device {device} --threads 8 "
            "--out {work}/speed-quick.json {toy}",
            200,
            alone=True,
            toy="--toy",
        ),
    ],
    # all models on MNIST, ten draws of 100 labels
    "tables": [
        MACHINE,
        _accuracy(
            "mnist-100",
            f"--seeds 10 --models {MODELS} --jobs 8 --epochs 10",
            330,
            "--epochs 1 --models gmmvae,m1m2",
        ),
        _accuracy("mnist-best", "--seeds 10 --models gmmvae --preset best --jobs 8", 220),
    ],
    # as long as one stage lasts, for the published comparison; started again, runs are resumed
    "published": [
        MACHINE,
        *(
            _accuracy(
                f"long-{model}", f"--seeds 1 --models {model} --minutes 8", 545, "--minutes 0.001"
            )
            for model in ("m2", "m1m2", "adgm", "sdgm", "gmmvae")
        ),
    ],
    "scaling": [MACHINE, _time("memory", 200), _check("out-of-memory", 120)],
}


class Running:
    """A task under way, with its log."""

    def __init__(self, task: Task, work: Path, seconds: float, command: str) -> None:
        self.task, self.began = task, time.monotonic()
        self.ends = self.began + seconds
        self.log = (work / f"{task.name}.log").open("wb")
        self.log.write(f"$ {command}\n".encode())
        self.log.flush()
        # a group to stop, in this session: where the stage is killed, so are its tasks
        self.process = subprocess.Popen(
            ["bash", "-c", command], stdout=self.log, stderr=subprocess.STDOUT, process_group=0
        )
        self.stopped = False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the task and its children."""
        self.stopped = True
        try:
            os.killpg(self.process.pid, how)
        except ProcessLookupError:
            return

    def poll(self) -> str | None:
        """A line on how the task ended, or None; stops a task that takes too long."""
        code, now = self.process.poll(), time.monotonic()
        if code is None and now > self.ends and not self.stopped:
            self.stop()
        elif code is None and self.stopped and now > self.ends + KILL_AFTER:
            self.stop(signal.SIGKILL)
        if code is None:
            return None
        self.log.close()
        how = "stopped" if self.stopped else f"exit {code}"
        return f"{self.task.name}: {how} after {now - self.began:.0f} s"


def run(
    tasks: list[Task],
    out: Path,
    seconds: float,
    side_by_side: int,
    *,
    device: str = "cuda",
    quick: bool = False,
) -> list[str]:
    """Run tasks in their order; those that are not alone run side by side.

    Returns:
        The names of the tasks that ended with an error, were stopped, or were not begun.
    """
    began, work = time.monotonic(), out.parent / f"{out.name}-work"
    work.mkdir(parents=True, exist_ok=True)
    waiting, running, bad = list(tasks), list[Running](), list[str]()
    packed = began

    def seconds_left() -> float:
        return seconds - PACKING_SECONDS - (time.monotonic() - began)

    def log(line: str) -> None:
        print(line, flush=True)
        with (out / "summary.txt").open("a") as file:
            file.write(line + "\n")

    def end(signum: int, frame: object) -> None:  # noqa: ARG001
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, end)
    try:
        while waiting or running:
            for one in list(running):
                ended = one.poll()
                if ended is None:
                    continue
                running.remove(one)
                if one.stopped or one.process.returncode:
                    bad.append(one.task.name)
                log(f"[{time.monotonic() - began:4.0f} s] {ended}")
                for line in last_lines(work / f"{one.task.name}.log", 6):
                    log(f"      {line[:220]}")
                pack(work, out)
            busy = any(one.task.alone for one in running)
            while waiting and not busy and len(running) < side_by_side and seconds_left() > 10:
                if waiting[0].alone and running:
                    break
                task = waiting.pop(0)
                command = task.filled(work, device, quick)
                # a trial may be on a slow machine
                most = seconds_left() if quick else min(task.seconds, seconds_left())
                running.append(Running(task, work, most, command))
                busy = task.alone
            if waiting and not running and seconds_left() <= 10:
                log(f"no time left for {', '.join(task.name for task in waiting)}")
                bad += [task.name for task in waiting]
                break
            if time.monotonic() - packed > PACK_EVERY:
                pack(work, out)
                packed = time.monotonic()
            time.sleep(0.2)
    finally:
        for one in running:
            one.stop()
            log(f"[{time.monotonic() - began:4.0f} s] {one.task.name}: cut off")
        pack(work, out)
    return bad


def last_lines(file: Path, count: int) -> list[str]:
    """The last lines of a log that are not empty."""
    text = file.read_bytes()[-4000:].decode(errors="replace").splitlines()
    return [line for line in text if line.strip()][-count:]


def pack(work: Path, out: Path) -> None:
    """Put all small files into one: few files are easier to bring back."""
    temporary = out / ".results"
    with tarfile.open(temporary, "w:gz") as archive:
        for file in sorted(work.rglob("*")):
            is_array = file.suffix in (".pt", ".npy", ".safetensors")
            try:
                if file.is_file() and not is_array and file.stat().st_size < MAX_BYTES:
                    archive.add(file, file.relative_to(work))
            except FileNotFoundError:  # a task replaced it meanwhile
                continue
    temporary.rename(out / "results.tar.gz")


def keep(out: Path, results: Path = RESULTS) -> list[Path]:
    """Copy the measurements of a stage into ``results``, to a folder with the device's name."""
    kept = []
    with tarfile.open(out / "results.tar.gz") as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member) if "/" not in member.name else None
            if file is None or not member.name.endswith(".json"):
                continue
            text = file.read().decode()
            content = json.loads(text)
            device = content["machine"]["device"]
            if content.get("quick") or device == "cpu":
                raise SystemExit(f"{out}: {member.name} is of a trial on {device}")
            folder = results / re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
            folder.mkdir(parents=True, exist_ok=True)
            kept.append(folder / member.name)
            kept[-1].write_text(text)
    return kept


def main(arguments: list[str]) -> int:
    """Run a stage, or one of its tasks; returns 1 if a task failed."""
    names = dict.fromkeys(task.name for tasks in STAGES.values() for task in tasks)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=[*STAGES, *names, "keep"], metavar="STAGE|TASK|keep")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device", default="cuda", help="where to compute (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="toy sizes: only shows that it runs")
    parser.add_argument("--seconds", type=float, default=555, help="time of the whole stage")
    parser.add_argument("--side-by-side", type=int, default=5, help="tasks at once")
    parser.add_argument("--dry", action="store_true", help="print the commands, and run none")
    options = parser.parse_args(arguments)
    if options.stage == "keep":
        print(*keep(options.out), sep="\n")
        return 0
    single = {t.name: [t] for tasks in STAGES.values() for t in tasks}
    tasks = STAGES.get(options.stage) or single[options.stage]
    if options.dry:
        for task in tasks:
            alone = "alone" if task.alone else "     "
            command = task.filled(Path("WORK"), options.device, options.quick)
            print(f"{task.seconds:4d} s  {alone} {task.name}: {command}")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    how = {"device": options.device, "quick": options.quick}
    return int(bool(run(tasks, options.out, options.seconds, options.side_by_side, **how)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
