"""The study on disk: an Optuna journal that several processes and machines append to.

A trial is asked for under one lock of the folder, so that the number of trials is kept to and
no two processes draw the same numbers; each trial under way holds a lock of its own, which
tells the others that its process lives.
"""

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyro_gmmvae
from pyro_gmmvae.config import Config, Dimension, label
from pyro_gmmvae.errors import GMMVAEError, missing_extra
from pyro_gmmvae.files import acquire_lock, is_locked
from pyro_gmmvae.sweeps.plan import Say
from pyro_gmmvae.sweeps.samplers import sampler_of
from pyro_gmmvae.sweeps.search_space import distributions, start_of

NAME = "gmmvae"
JOURNAL = "journal.log"
TABLES = ("best.toml", "trials.csv", "importance.csv", "importance.md")
PICTURES = ("history.png", "slice.png", "parallel.png", "importance.png", "contour.png")
MOST_KILLS = 2
# what changes no trial's value, or is named by the rows themselves
APART = {"device", "data_dir", "checkpoint_seconds", "tracks", "labels_file", "layout", "log"}
PRUNE_AFTER = 5  # trials that are run to their end first


@dataclass(frozen=True)
class Plan:
    """What a process needs to know to run trials of a study.

    Attributes:
        out: the study's folder.
        base: the configuration of every trial, less what is searched.
        space: the dimensions.
        metric: a key of ``METRICS``.
        direction: "maximize" or "minimize".
        sampler: a key of ``SAMPLERS``.
        trials: how many the study should have.
        seeds: fits of each.
        prune: stop trials that lag behind the median.
        keep_runs: leave their run folders.
        fingerprint: of the rows.
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
        """What must be the same where a study goes on."""
        keys = self.base.model_dump(exclude=APART)
        keys["data"] = Path(self.base.data).name  # of the rows themselves there is a fingerprint
        found = {key: label(value) for key, value in keys.items() if key not in self.space}
        found |= {f"the search of {key}": str(space) for key, space in self.space.items()}
        return found | {
            "rows": self.fingerprint[:12],
            "metric": self.metric,
            "seeds": str(self.seeds),
            "version": pyro_gmmvae.__version__,
        }


@dataclass
class Claim:
    """A trial that this process is to run, and the lock that says so."""

    trial: Any
    folder: Path
    lock: IO[str] = field(repr=False)


def require_optuna() -> None:
    """Refuse to go on without Optuna."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise missing_extra("gmmvae tune", "Optuna", "tune") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna neither reports each trial nor warns of what it calls experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def begin(plan: Plan, say: Say) -> None:
    """Make the study, or see that the one in the folder is this one, and mend its journal.

    Raises:
        GMMVAEError: another study, a file that is no journal, or files of others that a study
            would replace.
    """
    _check_folder(plan.out)
    with acquire_lock(plan.out / "study.lock"), quiet():
        _check_journal(plan.out / JOURNAL, say)
        study = open_study(plan)
        known, ours = study.user_attrs.get("identity"), plan.identity()
        if known is None:
            study.set_user_attr("identity", ours)
            study.enqueue_trial(start_of(plan.base, plan.space), user_attrs={"start": True})
        elif known != ours:
            raise GMMVAEError(f"{plan.out} holds another study, {_difference(known, ours)}")


def open_study(plan: Plan) -> Any:
    """The study as the journal tells it now; made where there is none.

    Raises:
        GMMVAEError: a journal that Optuna can't read.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    file = str(plan.out.resolve() / JOURNAL)
    # (a symbolic link, the other lock there is, only works on file systems that have them)
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


def claim(study: Any, plan: Plan) -> Claim | None:
    """The next trial to run, or None where the study has all its trials, or will have."""
    from optuna.trial import TrialState

    with acquire_lock(plan.out / "study.lock"), quiet():
        recover(study, plan)
        known = study.get_trials(deepcopy=False)
        running = [trial for trial in known if trial.state == TrialState.RUNNING]
        if len(finished(known)) + len(running) >= plan.trials:
            return None
        asked = sum(trial.state != TrialState.WAITING for trial in known)
        study.sampler = sampler_of(plan.sampler, plan.base.seed, asked)
        trial = study.ask(distributions(plan.space))
        folder = plan.out / "trials" / str(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        return Claim(trial, folder, acquire_lock(folder / "alive"))


def recover(study: Any, plan: Plan) -> None:
    """Put back the trials whose process was killed; a second time they are failed."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    folders = {trial.number: plan.out / "trials" / str(trial.number) for trial in running}
    dead = {number for number, folder in folders.items() if not is_locked(folder / "alive")}
    # a process tells how its trial ended before it lets go of the lock: look again
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number in dead:
            put_back(study, trial, "its process was killed", kills=1)
            shutil.rmtree(folders[trial.number], ignore_errors=True)


def put_back(study: Any, trial: Any, reason: str, *, kills: int = 0) -> None:
    """End a trial that was stopped half-way, and have its settings tried again.

    Args:
        study: of the trial.
        trial: one that is running.
        reason: in words, for the table.
        kills: 1 for a process that was killed, perhaps because of this trial's memory.
    """
    from optuna.trial import TrialState

    kills += trial.user_attrs.get("kills", 0)
    study.tell(trial.number, state=TrialState.FAIL)
    if kills < MOST_KILLS:
        again = {"again": trial.number, "because": reason, "kills": kills}
        again |= {"start": trial.user_attrs.get("start", False)}
        study.enqueue_trial(dict(trial.params), user_attrs=again)


def finished(trials: list[Any]) -> list[Any]:
    """The trials that count: complete, stopped early or failed, but not those put back."""
    from optuna.trial import TrialState

    back = {trial.user_attrs.get("again") for trial in trials}
    ended = (TrialState.COMPLETE, TrialState.FAIL)
    return [t for t in trials if t.state in ended and t.number not in back]


def _pruner(plan: Plan) -> Any:
    import optuna

    if not plan.prune:
        return optuna.pruners.NopPruner()
    steps = report_steps(plan.base)
    return optuna.pruners.MedianPruner(n_startup_trials=PRUNE_AFTER, n_warmup_steps=steps // 4)


def report_steps(config: Config) -> int:
    """In how many parts of its budget a trial tells the study how it goes."""
    return min(20, config.epochs or 20)


def _difference(known: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """The first thing in which two studies differ, in words."""
    for key in (*ours, *known):
        theirs, mine = known.get(key, "none"), ours.get(key, "none")
        if theirs != mine:
            return f"with {key} {theirs}, not {mine}; name another --out, or give what it had"
    return "of other settings; name another --out"


def _check_folder(out: Path) -> None:
    """Refuse a folder without a journal that has files of a study's names, or is a run."""
    if (out / JOURNAL).exists():
        return
    for name in ("config.json", *TABLES, *PICTURES):
        if (out / name).exists():
            raise GMMVAEError(
                f"{out} has {name} and no {JOURNAL}: it is no study's folder, and {name} is kept; "
                "name another --out"
            )


def _check_journal(file: Path, say: Say) -> None:
    """Refuse a file that is no journal, and cut off a line that was never written to its end."""
    try:
        content = file.read_bytes() if file.exists() else b""
    except OSError as error:
        raise GMMVAEError(f"{file} can't be read: {error.strerror or error}") from error
    whole = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or "op_code" not in entry:
            raise GMMVAEError(
                f"{file}: line {number} is no entry of a study's journal; restore the file, move "
                "it away, or name another --out"
            )
    if len(whole) < len(content):
        if not whole:
            raise GMMVAEError(f"{file} is no study's journal; move it away, or name another --out")
        _cut_last_line(file, say)


def _cut_last_line(file: Path, say: Say) -> None:
    from optuna.storages.journal import JournalFileOpenLock

    lock = JournalFileOpenLock(str(file.resolve()))
    lock.acquire()  # another process may be in the middle of that line
    try:
        content = file.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            with file.open("r+b") as handle:
                handle.truncate(end)
            say(f"{file}: a half-written last line was dropped")
    finally:
        lock.release()
