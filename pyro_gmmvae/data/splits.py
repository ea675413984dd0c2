"""Splits into training, validation and test rows, and class-balanced label draws."""

import warnings
from dataclasses import dataclass, replace

import numpy as np

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError


@dataclass(frozen=True)
class Split:
    """Row numbers of three disjoint parts, and of the training rows with a visible label.

    Attributes:
        train: training rows, without the validation rows.
        validation: held out to monitor a fit and to choose settings.
        test: held out for the final evaluation.
        labelled: the rows of ``train`` whose label the fit uses.
    """

    train: Labels
    validation: Labels
    test: Labels
    labelled: Labels

    def without(self, rows: Labels) -> "Split":
        """The split without some rows in what is trained on."""
        train, labelled = (np.setdiff1d(part, rows) for part in (self.train, self.labelled))
        return Split(train, self.validation, self.test, labelled)

    def leaving_out(self, rows: Labels, *, to_test: bool) -> "Split":
        """The split without some rows in any part, or with all of them in the test part."""
        train, validation, test, labelled = (
            np.setdiff1d(part, rows)
            for part in (self.train, self.validation, self.test, self.labelled)
        )
        return Split(train, validation, np.union1d(test, rows) if to_test else test, labelled)


def split_rows(
    y: Labels,
    *,
    classes: int,
    labels: int | None,
    test: int | float | Labels,
    validation: int | float | Labels,
    split_seed: int,
    label_seed: int,
    together: Labels | None = None,
) -> Split:
    """Split rows, stratified by class, and draw the labels the fit may see.

    Args:
        y: (N,) labels, -1 where unknown.
        classes: number of classes; 0 without labels.
        labels: number of visible training labels, class-balanced; None: all.
        test: test rows: a number, a share, or the row numbers of a published test set.
        validation: validation rows out of the rest: a number, a share, or given row numbers.
        split_seed: of the test and validation rows.
        label_seed: of the label draw.
        together: (N,) numbers of groups of rows; all rows of one are in the same part. A number or
            share of rows is then met about, by whole groups.

    Raises:
        GMMVAEError: more rows or labels than there are, or fewer labels than classes.
    """
    rows = np.arange(len(y))
    if isinstance(validation, np.ndarray):  # given validation rows are not drawn as test rows
        rows = np.setdiff1d(rows, validation)
    if isinstance(test, np.ndarray):
        rest, test_rows = np.setdiff1d(rows, test), test
        if not len(rest):
            raise GMMVAEError("no training rows: all rows are test or validation rows")
    else:
        rest, test_rows = _hold_out_groups(rows, y, test, split_seed, "test", together)
    if isinstance(validation, np.ndarray):
        train, validation_rows = rest, validation
    else:
        train, validation_rows = _hold_out_groups(
            rest, y, validation, split_seed, "validation", together
        )
    known = train[y[train] >= 0]
    labelled = known if labels is None else draw_labels(known, y, labels, classes, label_seed)
    return Split(train, validation_rows, test_rows, labelled)


def draw_labels(rows: Labels, y: Labels, labels: int, classes: int, seed: int) -> Labels:
    """Choose ``labels`` of ``rows``, as evenly over the classes as their sizes allow."""
    if labels == 0:
        return rows[:0]
    if labels < classes:
        raise GMMVAEError(
            f"{labels} labels for {classes} classes: each class needs at least one "
            "(or give --labels 0)"
        )
    if labels > len(rows):
        raise GMMVAEError(f"{labels} labels are more than the {len(rows)} of the training rows")
    without = np.setdiff1d(np.arange(classes), y[rows])
    if len(without):
        raise GMMVAEError(f"class number {without[0]} (from 0) has no training row with a label")
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(rows)
    # each row's rank within its class: taking the lowest ranks first balances the classes, and
    # classes that are too small leave their share to the others
    rank = np.empty(len(shuffled), np.int64)
    for label in range(classes):
        in_class = y[shuffled] == label
        rank[in_class] = np.arange(in_class.sum())
    return np.sort(shuffled[np.argsort(rank, kind="stable")[:labels]])


def _hold_out_groups(
    rows: Labels,
    y: Labels,
    size: int | float,
    seed: int,
    name: str,
    together: Labels | None,
) -> tuple[Labels, Labels]:
    """:func:`_hold_out` of whole groups, stratified by the most frequent class of each."""
    if together is None or not size:
        return _hold_out(rows, y, size, seed, name)
    groups, place = np.unique(together[rows], return_inverse=True)
    count = round(size * len(groups) / (1 if size < 1 else len(rows)))
    if not 0 < count < len(groups):
        raise GMMVAEError(
            f"{name} {size}: {len(rows)} rows are in {len(groups)} groups that stay together, and "
            f"this takes {count} of them; give another size, or 0 for none (--set {name}=0)"
        )
    known = np.flatnonzero(y[rows] >= 0)
    counts = np.zeros((len(groups), y.max(initial=0) + 1), np.int64)
    np.add.at(counts, (place[known], y[rows][known]), 1)
    label = np.where(counts.any(1), counts.argmax(1), -1)
    kept, held = _hold_out(np.arange(len(groups)), label, count, seed, name)
    return rows[np.isin(place, kept)], rows[np.isin(place, held)]


def number_of_folds(y: Labels, asked: int) -> int:
    """The number of folds for labels y (n,) that all have a class: no more than its rows.

    0 where no class has two rows, or ``asked`` is below 2.
    """
    folds = min(asked, int(np.bincount(y).max(initial=0)))
    return folds if folds > 1 else 0


def hold_out_fold(
    split: Split, y: Labels, folds: int, fold: int, seed: int, together: Labels | None = None
) -> Split:
    """One fold of the labelled rows becomes the validation part; folds are stratified by class.

    Args:
        split: of all rows; its validation rows stay out of the fit.
        y: (N,) labels.
        folds: their number.
        fold: the number of the one that is held out, from 0.
        seed: of the folds.
        together: (N,) rows with the same number stay in one fold; None: each row by itself.

    Raises:
        GMMVAEError: fewer groups than folds, or no such fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if not 0 <= fold < folds:
        raise GMMVAEError(f"fold must be from 0 to {folds - 1} of {folds} folds, not {fold}")
    rows = split.labelled
    groups = None if together is None else together[rows]
    if groups is not None and len(np.unique(groups)) < folds:
        raise GMMVAEError(
            f"the labelled rows are of {len(np.unique(groups))} groups: too few for {folds} folds; "
            "give a smaller --cv, or 0"
        )
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds
        parts = list(kind(folds, shuffle=True, random_state=seed).split(rows, y[rows], groups))
    held = rows[parts[fold][1]]
    if together is not None:  # their unlabelled rows too
        held = split.train[np.isin(together[split.train], together[held])]
    labelled, train = np.setdiff1d(rows, held), np.setdiff1d(split.train, held)
    return replace(split, train=train, validation=held, labelled=labelled)


def _hold_out(
    rows: Labels, y: Labels, size: int | float, seed: int, name: str
) -> tuple[Labels, Labels]:
    """Take ``size`` rows (a number or a share) out of ``rows``, stratified where possible."""
    from sklearn.model_selection import train_test_split

    count = round(size * len(rows)) if size < 1 else int(size)
    if (size >= 1 and count != size) or (size > 0 and count == 0):
        raise GMMVAEError(
            f"{name} {size}: of {len(rows)} rows; give a whole number, a share that gives at least "
            f"one, or 0 for none (--set {name}=0)"
        )
    if count == 0:
        return rows, rows[:0]
    if not 0 < count < len(rows):
        raise GMMVAEError(f"{name} {size}: there are only {len(rows)} rows to take it from")
    values, counts = np.unique(y[rows], return_counts=True)
    single = np.isin(y[rows], values[counts < 2])  # can't be split: stays with the rest
    others = rows[~single]
    size_left = len(others) - count
    possible = size_left > 0 and len(values[counts > 1]) <= min(count, size_left)
    kept, held = train_test_split(
        others if possible else rows,
        test_size=count,
        random_state=seed,
        stratify=y[others] if possible else None,
    )
    if possible:
        kept = np.concatenate([kept, rows[single]])
    else:
        kept, held = _with_all_classes(kept, held, y, seed)
    return np.sort(kept), np.sort(held)


def _with_all_classes(kept: Labels, held: Labels, y: Labels, seed: int) -> tuple[Labels, Labels]:
    """Exchange rows so that no class is held out completely.

    Otherwise it could not be learned; with few sequences per person that is likely.
    """
    generator = np.random.default_rng(seed)
    kept, held = kept.copy(), held.copy()
    for label in np.setdiff1d(y[held], np.append(y[kept], -1)):
        values, counts = np.unique(y[kept], return_counts=True)
        spare = np.isin(y[kept], values[(counts > 1) | (values < 0)])
        if not spare.any():
            break
        one = generator.choice(np.flatnonzero(spare))
        other = np.flatnonzero(y[held] == label)[0]
        kept[one], held[other] = held[other], kept[one]
    return kept, held
