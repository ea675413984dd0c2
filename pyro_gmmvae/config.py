"""The configuration of a run: one flat set of keys, the same in Python, TOML and on the CLI."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import MAX_INTEGER, read_toml
from pyro_gmmvae.key_types import (
    MAX_SIZE,
    Folds,
    Labels,
    Names,
    Range,
    Schedule,
    Seed,
    Widths,
    split_list,
)

# starts of a fit; any other is the folder of a run
INITS = ("random", "kmeans", "ae-gmm")


class Config(BaseModel):
    """The keys that every fit has. Schedules are a number or "start:end:steps".

    The keys of a model, of its guide and of the data are added by
    :func:`pyro_gmmvae.runs.keys.configure`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # facts about the model and the guide, set by runs.keys on the class with their keys
    class_site: ClassVar[str | None] = None
    own_guide: ClassVar[str | None] = None
    own_objective: ClassVar[str] = "analytic"
    model_keys: ClassVar[tuple[str, ...]] = ()
    guide_keys: ClassVar[tuple[str, ...]] = ()
    shared_parameters: ClassVar[frozenset[str]] = frozenset()

    preset: str | None = Field(
        None,
        description="Named settings that suit the data set, such as paper, permutation-invariant, "
        "few-labels, best or cluster (without labels).",
    )

    # model and objective
    model: str = Field("gmmvae", description="The model ('gmmvae list models').")
    guide: str | None = Field(
        None, description="The posterior of z and s ('gmmvae list guides'); none: the model's own."
    )
    objective: str | None = Field(
        None, description="The loss ('gmmvae list objectives'); none: that of the guide or model."
    )
    particles: int | None = Field(
        None, ge=1, le=10_000, description="Samples per row and step; none: 5 for iwae, else 1."
    )
    seed: Seed = Field(0, description="Seed of weights, batches and, by default, the label draw.")
    device: str = Field("auto", description="Device: auto, cpu, cuda, cuda:1 or mps.")

    # data
    data: str = Field(
        "digits",
        min_length=1,
        description="A name of 'gmmvae list data', a table (csv, parquet, feather, xlsx), arrays "
        "(npz, npy), or a folder of npy or parquet shards.",
    )
    data_dir: str | None = Field(None, description="Folder with the files of a named data set.")
    label_column: str = Field("label", description="Column or array with the labels.")
    weight_column: str | None = Field(
        None,
        min_length=1,
        description="Column or array with a weight of each row: rows are drawn for batches in "
        "proportion to it, and rows of weight 0 are left out of the fit.",
    )
    group_column: str | None = Field(
        None,
        min_length=1,
        description="Column or array with the group of each row, such as a patient: rows of a "
        "group are in the same part and in the same fold.",
    )
    column: Names = Field(
        (),
        description="Kinds of columns of a table, NAME=KIND: real, student-t, positive, count, "
        "binary, category, ordinal(low<mid<high), or skip to leave a column out.",
    )
    covariates: Names = Field(
        (),
        description="Columns of a table that are given to encoder and decoder, and are no part of "
        "x.",
    )
    labels: Labels = Field(
        None, description="Labels that are used, balanced over the classes; all: every label."
    )
    leave_out: str | None = Field(
        None,
        description="A class whose rows are left out of the fit: 'gmmvae evaluate' measures how "
        "well they are recognized as new.",
    )
    use_unlabelled: bool = Field(True, description="Fit rows without a label as well.")
    transductive: bool = Field(False, description="Fit the test rows as well, without labels.")
    label_seed: Seed | None = Field(
        None, description="Seed of the draw of labelled rows; none: seed."
    )
    split_seed: Seed = Field(0, description="Seed of the test and validation rows.")
    test: int | float = Field(
        0.2, ge=0, description="Number or share of test rows, where no test set is published."
    )
    validation: int | float = Field(
        0.1, ge=0, description="Number or share of the training rows that are held out."
    )
    x_range: Range = Field(
        None,
        description="Lowest and highest value of all rows, such as 0,255, that become 0 and 1; "
        "none: 0,1 or 0,255 where the values of an array show it, else rows are standardized.",
    )
    binarize: Literal["threshold", "dynamic"] | None = Field(
        None,
        description="Make rows in [0, 1] binary, for likelihood=bernoulli: threshold (1 from 1/2 "
        "on) or dynamic (drawn in each batch); none: they stay as they are.",
    )
    missing: Literal["model", "refuse"] = Field(
        "model",
        description="Cells that are empty or NaN. model: the likelihood leaves them out, and the "
        "encoder gets a mask; refuse: they are an error.",
    )
    drop_nonfinite: bool = Field(
        False, description="Leave out rows with missing cells or infinite values."
    )

    shapes_rows: int = Field(
        10_000, ge=10, le=1_000_000, description="Number of images of --data shapes."
    )
    shapes_size: int = Field(
        32, ge=8, le=256, description="A side of the images of --data shapes, in pixels."
    )

    # skeletons
    tracks: str | None = Field(None, description="Table of joints over time (data=skeleton).")
    labels_file: str | None = Field(
        None, description="CSV with the columns sequence, person, split and factors."
    )
    layout: str | None = Field(
        None, description="Joint layout: body_25, coco_18, kinect_18, or a TOML file."
    )
    protocol: str | None = Field(
        None, description="Which sequences of a named set are the test set."
    )
    window: int = Field(8, ge=0, le=10_000, description="Frames per window; 0: the whole sequence.")
    stride: int = Field(4, ge=1, description="Frames between the starts of windows.")
    max_gap: int = Field(
        5, ge=0, le=1000, description="Longest gap that is interpolated, in frames."
    )
    scale: Literal["torso", "file"] = Field(
        "torso", description="Unit of poses: the torso, or that of the file."
    )
    features: Names = Field(
        ("joints", "bones"),
        min_length=1,
        description="Features of a pose: joints, velocities, bones, ratios, angles.",
    )
    statistics: Names = Field(
        ("mean", "std"), description="Statistics of the features over a window; empty: each frame."
    )
    joint_dropout: float = Field(
        0.5, ge=0, lt=1, description="Largest share of joints that augment=drop hides."
    )

    # model and networks
    latent_dim: int = Field(16, ge=1, le=MAX_SIZE, description="d, the size of z.")
    likelihood: str | None = Field(
        None,
        description="p(x|z): bernoulli, continuous-bernoulli, normal, binomial(COUNT), "
        "categorical(LEVELS) or discretized-logistic(LEVELS); none: the one that suits the data.",
    )
    network: str = Field("mlp", description="Encoder and decoder ('gmmvae list networks').")
    hidden: Widths = Field(
        (256, 256), min_length=1, max_length=100, description="Widths of the hidden layers."
    )
    channels: Widths = Field(
        (32, 64), min_length=1, max_length=100, description="Channels of convolutional layers."
    )
    activation: str = Field("relu", description="Activation ('gmmvae list activations').")
    batch_norm: bool = Field(False, description="Normalize batches before each activation.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Probability of dropping a hidden unit.")
    input_noise: float = Field(
        0.0, ge=0, description="Standard deviation of noise on the encoder's input, in x's units."
    )
    skip: bool = Field(
        False, description="Add a linear path parallel to the encoder's hidden layers."
    )

    # objective
    alpha: Schedule = Field(Schedule.constant(30), description="Weight of the classification term.")
    pseudo_alpha: Schedule | None = Field(
        None, description="Weight of the classification term of pseudo-labels; none: alpha."
    )
    elbo_weight: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="Weight of the ELBO; 0: a classifier alone, for comparison.",
    )
    labelled_elbo: float = Field(
        1.0, ge=0, description="Weight of labelled rows in the ELBO; other rows have 1."
    )

    # augmentation and pseudo-labels
    augment: str | None = Field(
        None,
        description="Augmentations ('gmmvae list augmentations'), separated by commas; auto: those "
        "that suit the data.",
    )
    reconstruct: Literal["separate", "augmented", "original"] | None = Field(
        None,
        description="Use of augmented rows. separate: by the class terms only, and the ELBO is of "
        "the original row without noise; augmented: by both; original: by the guide, and the "
        "decoder reconstructs the original. none: separate where rows of a model with a class are "
        "augmented or have input noise.",
    )
    class_rows: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of a batch's rows, labelled ones first, that get the second pass of "
        "reconstruct=separate; less is faster.",
    )
    teacher_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the rows without a label that a teacher labels before the fit, the "
        "surest ones; 0: none.",
    )
    teacher: Literal["classifiers", "graph"] = Field(
        "classifiers",
        description="The teacher: classifiers of scikit-learn, or labels that spread over a graph "
        "of nearest neighbors in z of a VAE.",
    )
    graph_neighbors: int = Field(
        10, ge=1, le=1000, description="Neighbors of a row in the graph of teacher=graph."
    )
    pseudo_threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Label rows for which an averaged copy of the model reaches this probability; "
        "none: no pseudo-labels.",
    )
    pseudo_balance: bool = Field(
        False,
        description="Assume equally frequent classes for pseudo-labels, and in teacher=graph.",
    )
    pseudo_from: int = Field(200, ge=0, description="First step with pseudo-labels.")
    pseudo_decay: float = Field(
        0.99, ge=0, lt=1, description="Decay of the averaged copy per step."
    )
    pseudo_every: int = Field(
        20, ge=1, description="Steps between updates of the pseudo-labels of sequences."
    )

    # fit
    members: int = Field(
        1,
        ge=1,
        le=100,
        description="Fits with other seeds, whose class probabilities are averaged.",
    )
    cv: Folds = Field(
        None,
        description="Folds of a cross-validation over the labelled rows; 0: none. none: 5 where a "
        "table has too few labels for test rows, for a model with classes.",
    )
    fold: int | None = Field(
        None, ge=0, description="The fold that is held out (of the runs in RUN/folds)."
    )
    init: str = Field(
        "random",
        min_length=1,
        description="Start of a fit: random weights; without labels also clusters (kmeans, "
        "ae-gmm) that are used as labels for the first steps; or the folder of a run, whose "
        "weights are taken and whose components, if any, are matched to the classes.",
    )
    epochs: int | None = Field(None, ge=1, description="Passes over the training rows.")
    steps: int | None = Field(
        None,
        ge=1,
        description="Optimizer steps, instead of epochs; rounded up to whole epochs, then "
        "of about 20 steps or more.",
    )
    minutes: float | None = Field(None, gt=0, description="Wall-clock budget, instead of epochs.")
    batch_size: int = Field(128, ge=2, description="Rows per step.")
    labelled_per_batch: int = Field(
        50, ge=0, description="Labelled rows that are added to each batch, balanced over classes."
    )
    learning_rate: float = Field(2e-3, gt=0, description="Adam's learning rate at the start.")
    decay: Literal["cosine", "constant"] = Field(
        "cosine", description="Decay of the learning rate over the fit."
    )
    weight_decay: float = Field(0.0, ge=0, le=100, description="Decoupled weight decay (AdamW).")
    discriminator_rate: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="Learning rate of discriminators, as a multiple of learning_rate.",
    )
    clip_norm: float = Field(200.0, ge=0, description="Largest gradient norm; 0: no limit.")
    patience: int = Field(
        0, ge=0, description="Stop after this many epochs without improvement; 0: never."
    )
    checkpoint_seconds: float = Field(30.0, ge=0, description="Seconds between checkpoints.")
    log: Names = Field((), description="Logs beside history.csv: tensorboard, mlflow.")
    deterministic: bool = Field(False, description="Use deterministic kernels only.")
    tf32: bool = Field(
        False,
        description="Let a CUDA device round the operands of products and convolutions to TF32 (10 "
        "bits of mantissa) while fitting, which is faster; not for deterministic fits.",
    )
    engine: Literal["auto", "svi", "captured", "compiled", "batched"] = Field(
        "auto",
        description="How a step is computed; batched: fits that differ in seeds as one program.",
    )
    precision: Literal["f32", "bf16", "f64"] = Field(
        "f32", description="Precision; bf16: of the operands of matrix products, while fitting."
    )
    verify: bool = Field(
        True, description="Check a captured step against eager evaluation before it is used."
    )

    @property
    def init_run(self) -> Path | None:
        """The folder of the run whose weights a fit starts from, where there is one."""
        return None if self.init in INITS else Path(self.init)

    @property
    def given(self) -> frozenset[str]:
        """The keys that were given, rather than left at a default or at a preset's value."""
        return frozenset(self.model_fields_set)

    def replace(self, **changes: Any) -> "Config":
        """A copy with some keys changed, checked again; the changed keys count as given."""
        return self._changed(changes, self.given | changes.keys())

    def with_defaults(self, **values: Any) -> "Config":
        """A copy with some keys filled in, checked again; ``given`` stays as it is."""
        return self._changed(values, self.given)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key that not every fit has, or a default."""
        return getattr(self, key) if key in type(self).model_fields else default

    def _changed(self, changes: Mapping[str, Any], given: Collection[str]) -> "Config":
        return validate(type(self), {**dict(self), **changes}, given)


# in place of pydantic's words for Python values
_MESSAGES = {
    "too_short": "at least 1 value is needed",
    "string_too_short": "a name is needed",
    "int_parsing": "Input should be a valid integer",
    "float_parsing": "Input should be a valid number",
}


def validate(
    config_class: type[Config], values: Mapping[str, Any], given: Collection[str] | None = None
) -> Config:
    """A configuration of a class, from values of its keys.

    Args:
        config_class: with the keys of a fit.
        values: by key.
        given: the keys that count as given by the user; None: all.

    Raises:
        GMMVAEError: a value out of range.
    """
    try:
        config = config_class(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name, reason = str(first["loc"][0]), first.get("ctx", {}).get("error")
        if isinstance(reason, GMMVAEError):
            raise GMMVAEError(f"{name}: {reason}") from error
        message = _MESSAGES.get(first["type"], first["msg"])
        raise GMMVAEError(f"{name}: {message}, not {values[name]!r}") from error
    for key, value in config:
        if isinstance(value, int) and abs(value) > MAX_INTEGER:  # config.json could not be read
            raise GMMVAEError(f"{key}: at most {MAX_INTEGER}, not {value}")
    if given is None:
        return config
    return config_class.model_construct(_fields_set=set(given), **dict(config))


def read_config(path: Path) -> dict[str, Any]:
    """Read the keys of a TOML file; "none" stands for None, which TOML does not have.

    A table ``[columns]``, ``NAME = "KIND"``, is the key ``column``.

    Raises:
        GMMVAEError: as :func:`pyro_gmmvae.files.read_toml`, or a kind that is not text.
    """
    values = {key: None if value == "none" else value for key, value in read_toml(path).items()}
    kinds = values.pop("columns", {})
    if not isinstance(kinds, dict) or not all(isinstance(kind, str) for kind in kinds.values()):
        raise GMMVAEError(f'{path}: [columns] is a table of texts, such as age = "count"')
    if kinds:
        before = split_list(values.get("column", ()))
        values["column"] = (*before, *(f"{name}={kind}" for name, kind in kinds.items()))
    return values
