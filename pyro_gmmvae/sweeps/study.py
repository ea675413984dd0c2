"""A tuning study on disk: an Optuna journal that several processes and machines append to.

A process asks for a trial under one lock of the folder, so that the number of trials is respected
and two processes never draw the same settings. Each trial under way holds a lock of its own: the
lock of a killed process is free, and its trial is put back.
"""

import hashlib
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyro_gmmvae
from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError, missing_extra
from pyro_gmmvae.files import parse_json
from pyro_gmmvae.ranges import Dimension, label
from pyro_gmmvae.runs.locks import acquire_lock, is_locked
from pyro_gmmvae.sweeps.plan import Log
from pyro_gmmvae.sweeps.search_space import initial_point, optuna_distributions
from pyro_gmmvae.training.processes import command_id

NAME = "gmmvae"
JOURNAL = "journal.log"
TABLES = ("best.toml", "trials.csv", "importance.csv", "importance.md")
PICTURES = ("history.png", "slice.png", "parallel.png", "importance.png", "contour.png")
SAMPLERS = ("gp", "tpe", "random")
MAX_KILLS = 2  # of the process of a trial
MAX_COMMANDS = 5  # that were killed while they ran a trial
# keys that change no trial's value, or files whose content the rows' fingerprint covers
IGNORED_KEYS = {
    *("device", "data_dir", "checkpoint_seconds", "tracks", "labels_file", "layout", "log"),
}
PRUNE_AFTER = 5  # trials that run to their end before the first is pruned


@dataclass(frozen=True)
class StudyPlan:
    """Everything that a process needs to run trials of a study.

    Attributes:
        out: the study's folder.
        base: the configuration of every trial, before the searched keys are set.
        space: the dimensions by configuration key.
        metric: a key of ``VALIDATION_METRICS``.
        direction: "maximize" or "minimize".
        sampler: one of ``SAMPLERS``.
        trials: the number of trials of the whole study.
        seeds: fits of each trial.
        prune: stop trials that are below the median of the others.
        keep_runs: keep the run folders.
        fingerprint: hash of the rows.
    """

    out: Path
    base: Config
    space: dict[str, Dimension]
    metric: str
    direction: str
    sampler: str
    trials: int
    seeds: int
    prune: bool
    keep_runs: bool
    fingerprint: str

    def identity(self) -> dict[str, str]:
        """Everything that must be equal when a study is resumed, as text."""
        keys = self.base.model_dump(exclude=IGNORED_KEYS)
        keys["data"] = Path(self.base.data).name  # the fingerprint covers the rows
        texts = {key: label(value) for key, value in keys.items() if key not in self.space}
        texts |= {f"the search of {key}": str(space) for key, space in self.space.items()}
        return texts | {
            "rows": self.fingerprint[:12],
            "metric": self.metric,
            "seeds": str(self.seeds),
            "version": pyro_gmmvae.__version__,
        }


@dataclass
class Claim:
    """A trial that this process runs, its folder, and the lock that it holds."""

    trial: Any
    folder: Path
    lock: IO[str] = field(repr=False)


def require_optuna() -> None:
    """Raise an error that names the extra if Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise missing_extra("gmmvae tune", "Optuna", "tune") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's lines on trials and its warnings on experimental features."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def begin(plan: StudyPlan, log: Log) -> None:
    """Create the study, or check that the folder holds the same study, and repair its journal.

    Raises:
        GMMVAEError: another study, a file that is not a journal, or other files that the study
            would replace.
    """
    _check_folder(plan.out)
    with acquire_lock(plan.out / "study.lock"), quiet():
        _check_journal(plan.out / JOURNAL, log)
        study = open_study(plan)
        stored, ours = study.user_attrs.get("identity"), plan.identity()
        if stored is None:
            study.set_user_attr("identity", ours)
            study.enqueue_trial(initial_point(plan.base, plan.space), user_attrs={"start": True})
        elif stored != ours:
            raise GMMVAEError(f"{plan.out} holds another study, {_difference(stored, ours)}")


def open_study(plan: StudyPlan) -> Any:
    """Load the study from its journal, or create it.

    Raises:
        GMMVAEError: a journal that Optuna can't replay.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    file = str(plan.out.resolve() / JOURNAL)
    # (the other lock that Optuna has is a symbolic link, which some file systems lack)
    try:
        backend = JournalFileBackend(file, lock_obj=JournalFileOpenLock(file))
        storage = optuna.storages.JournalStorage(backend)
        names = [study.study_name for study in storage.get_all_studies()]
    except OSError as error:
        raise GMMVAEError(f"can't use {file}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise GMMVAEError(
            f"{file} is damaged: Optuna can't replay it; restore it, or name another --out"
        ) from error
    if names not in ([], [NAME]):
        raise GMMVAEError(f"{file} holds a study of another program; name another --out")
    if not names and Path(file).stat().st_size:
        raise GMMVAEError(f"{file} has lost its beginning; restore it, or name another --out")
    pruner = _pruner(plan)
    if names:
        return optuna.load_study(study_name=NAME, storage=storage, pruner=pruner)
    return optuna.create_study(
        study_name=NAME, storage=storage, pruner=pruner, direction=plan.direction
    )


def claim(study: Any, plan: StudyPlan) -> Claim | None:
    """Ask for the next trial; None if all trials are finished or under way."""
    from optuna.trial import TrialState

    with acquire_lock(plan.out / "study.lock"), quiet():
        recover(study, plan)
        trials = study.get_trials(deepcopy=False)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        if len(finished(trials)) + len(running) >= plan.trials:
            return None
        # a trial that was put back counts once, as in a study that nobody stopped
        asked = sum(trial.state != TrialState.WAITING for trial in trials) - len(_put_back(trials))
        study.sampler = build_sampler(plan.sampler, plan.base.seed, asked)
        trial = study.ask(optuna_distributions(plan.space))
        folder = plan.out / "trials" / str(trial.number)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = acquire_lock(folder / "alive")
            lock.write(f"{command_id()}\n")
            lock.flush()
        except OSError as error:
            raise GMMVAEError(f"can't write {folder / 'alive'}: {error.strerror}") from error
        return Claim(trial, folder, lock)


def build_sampler(name: str, seed: int, asked: int) -> Any:
    """Build a sampler for one trial, so that a resumed study continues as if never stopped.

    "gp" is a Gaussian process with expected improvement, after ten random trials; "tpe" the
    tree-structured Parzen estimator, after ten; "random" independent draws, the baseline.

    Args:
        name: one of ``SAMPLERS``.
        seed: the seed of the study.
        asked: the number of trials that were asked for before.
    """
    from optuna import samplers

    digest = hashlib.sha256(f"{seed} {asked}".encode()).digest()
    trial_seed = int.from_bytes(digest[:4], "little")
    if name == "gp":
        return samplers.GPSampler(seed=trial_seed)
    if name == "tpe":  # trials under way count as poor, so that processes ask for other places
        return samplers.TPESampler(seed=trial_seed, constant_liar=True)
    return samplers.RandomSampler(seed=trial_seed)


def recover(study: Any, plan: StudyPlan) -> None:
    """Put back the trials whose process was killed.

    A trial counts as failed after a second time that its process alone was killed, or after the
    fifth time that the command was killed.
    """
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    folders = {trial.number: plan.out / "trials" / str(trial.number) for trial in running}
    dead = {number for number, folder in folders.items() if not is_locked(folder / "alive")}
    # a process records the end of its trial before it releases the lock: look again
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number in dead:
            # that of a command that goes on was perhaps killed because of this trial
            alone = _command_of(folders[trial.number]) == command_id()
            share = 1 if alone else MAX_KILLS / MAX_COMMANDS
            put_back(study, trial, "its process was killed", kills=share)
            shutil.rmtree(folders[trial.number], ignore_errors=True)


def _command_of(folder: Path) -> str:
    """The text of the command that ran a trial."""
    try:
        return (folder / "alive").read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""


def put_back(study: Any, trial: Any, reason: str, *, kills: float = 0) -> None:
    """End a trial that was stopped half-way, and queue its settings again.

    Args:
        study: the study of the trial.
        trial: a running trial.
        reason: a text for the table.
        kills: 1 if the process was killed, perhaps because of this trial's memory; less where the
            command was killed.
    """
    from optuna.trial import TrialState

    kills += trial.user_attrs.get("kills", 0)
    study.tell(trial.number, state=TrialState.FAIL)
    if kills < MAX_KILLS:
        again = {"again": trial.number, "because": reason, "kills": kills}
        again |= {"start": trial.user_attrs.get("start", False)}
        study.enqueue_trial(dict(trial.params), user_attrs=again)


def finished(trials: list[Any]) -> list[Any]:
    """Select the trials that count: complete, stopped early or failed, but not put back."""
    from optuna.trial import TrialState

    back, ended = _put_back(trials), (TrialState.COMPLETE, TrialState.FAIL)
    return [t for t in trials if t.state in ended and t.number not in back]


def _put_back(trials: list[Any]) -> set[int]:
    """The numbers of trials that were stopped half-way and queued again."""
    return {t.user_attrs["again"] for t in trials if "again" in t.user_attrs}


def _pruner(plan: StudyPlan) -> Any:
    import optuna

    if not plan.prune:
        return optuna.pruners.NopPruner()
    steps = report_steps(plan.base)
    return optuna.pruners.MedianPruner(n_startup_trials=PRUNE_AFTER, n_warmup_steps=steps // 4)


def report_steps(config: Config) -> int:
    """The number of intermediate values that a trial reports over its budget."""
    return min(20, config.epochs or 20)


def _difference(stored: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Describe the first difference between the identities of two studies."""
    for key in (*ours, *stored):
        theirs, mine = stored.get(key, "none"), ours.get(key, "none")
        if theirs != mine:
            return f"with {key} {theirs}, not {mine}; name another --out, or give the same value"
    return "with other settings; name another --out"


def _check_folder(out: Path) -> None:
    """Refuse a run folder, and a folder without a journal that has files named as a study's."""
    if (out / JOURNAL).exists():
        return
    for name in ("config.json", *TABLES, *PICTURES):
        if (out / name).exists():
            raise GMMVAEError(
                f"{out} has {name} and no {JOURNAL}: it is not the folder of a study, "
                f"and {name} is kept; name another --out"
            )


def _check_journal(file: Path, log: Log) -> None:
    """Refuse a file that is not a journal, and cut off a half-written last line."""
    try:
        content = file.read_bytes() if file.exists() else b""
    except OSError as error:
        raise GMMVAEError(f"{file} can't be read: {error.strerror or error}") from error
    whole = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            entry = parse_json(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or "op_code" not in entry:
            raise GMMVAEError(
                f"{file}: line {number} is not an entry of a study's journal; restore the file, "
                "move it away, or name another --out"
            )
    if len(whole) < len(content):
        if not whole:
            raise GMMVAEError(
                f"{file} is not a study's journal; move it away, or name another --out"
            )
        _cut_last_line(file, log)


def _cut_last_line(file: Path, log: Log) -> None:
    from optuna.storages.journal import JournalFileOpenLock

    journal_lock = JournalFileOpenLock(str(file.resolve()))
    journal_lock.acquire()  # another process may be in the middle of that line
    try:
        content = file.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            with file.open("r+b") as handle:
                handle.truncate(end)
            log(f"{file}: a half-written last line was dropped")
    finally:
        journal_lock.release()
