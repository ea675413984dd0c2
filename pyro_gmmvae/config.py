"""The configuration of a run: one flat set of keys, the same in Python, TOML and on the CLI."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.files import read_toml


def _split_list(value: Any) -> Any:
    """ "256,256" -> ["256", "256"], so that --set hidden=256,256 works."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


def _none_is_empty(value: Any) -> Any:
    return () if value is None else value


def _as_text(value: Any) -> Any:
    return repr(value) if isinstance(value, int | float) else value


def _all_is_none(value: Any) -> Any:
    return None if value == "all" else value


Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_split_list)]
Labels = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_all_is_none)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Shares = Annotated[tuple[Annotated[float, Field(gt=0)], ...] | None, BeforeValidator(_split_list)]
Names = Annotated[tuple[str, ...], BeforeValidator(_none_is_empty), BeforeValidator(_split_list)]
ScheduleText = Annotated[str, BeforeValidator(_as_text)]


class Config(BaseModel):
    """Everything that decides what a run does. Schedules are a number or "start:end:steps"."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    preset: str | None = Field(None, description="named settings that suit the data set")

    # what to train
    model: str = "gmmvae"
    guide: str | None = Field(None, description="posterior of z and s; none: the model's own")
    objective: str | None = Field(
        None, description="none: analytic, or trace where guide or model has no closed form"
    )
    particles: int | None = Field(
        None, ge=1, description="samples per row and step; none: 5 for iwae, else 1"
    )
    seed: Seed = Field(0, description="of weights, batches and, by default, the label draw")
    device: str = "auto"

    # data
    data: str = "digits"
    data_dir: str | None = None
    label_column: str = "label"
    labels: Labels = Field(None, description="labels the fit sees; none or all: all there are")
    use_unlabelled: bool = Field(True, description="fit rows without a label, too")
    transductive: bool = Field(False, description="fit the test rows, too, without labels")
    label_seed: Seed | None = Field(None, description="of the label draw; none: seed")
    split_seed: Seed = Field(0, description="of the test and validation rows")
    test: int | float = Field(
        0.2, ge=0, description="rows or share, where no test set is published"
    )
    validation: int | float = Field(0.1, ge=0, description="rows or share of the training rows")
    drop_nonfinite: bool = False

    # skeletons
    tracks: str | None = Field(None, description="table of joints over time, for data=skeleton")
    labels_file: str | None = Field(None, description="CSV: sequence, person, split, factors")
    layout: str | None = Field(None, description="of the joints: a name, or a TOML file")
    protocol: str | None = Field(None, description="which sequences of a named set are tested")
    window: int = Field(8, ge=0, le=10_000, description="frames per window; 0: the whole sequence")
    stride: int = Field(4, ge=1, description="frames between the starts of windows")
    max_gap: int = Field(
        5, ge=0, le=1000, description="missing frames in a row that are interpolated"
    )
    scale: Literal["torso", "file"] = Field(
        "torso", description="unit of poses: the body's size, or as in the file"
    )
    features: Names = Field(("joints", "bones"), min_length=1)
    statistics: Names = Field(("mean", "std"), description="over a window; empty: each frame")

    # model
    components: int | None = Field(None, ge=1, description="K; none: the number of classes")
    extra_components: int = Field(0, ge=0, description="beyond one per class, for strangers")
    factors: Names = Field(
        (), description="further latents s: name (all training labels shown), or name=K"
    )
    latent_dim: int = Field(16, ge=1, description="d, the size of z")
    auxiliary_dim: int | None = Field(None, ge=1, description="size of a; none: latent_dim")
    likelihood: str | None = Field(None, description="bernoulli or normal; none: what suits x")
    learn_prior: bool = Field(False, description="learn pi")
    class_prior: Shares = Field(
        None, description="pi, a share per component; none: flat (all as frequent)"
    )
    covariance: Literal["diagonal", "full"] = Field("diagonal", description="of p(z|s)")
    label_eps: float = Field(1e-3, gt=0, lt=1, description="prior mass a label leaves to others")
    temperature: ScheduleText = Field("0.5", description="of q(s|x)")
    prior_temperature: ScheduleText = Field("0.5", description="of p(s)")

    # networks
    network: str = "mlp"
    hidden: Widths = Field((256, 256), min_length=1)
    channels: Widths = Field((32, 64), min_length=1)
    activation: str = "relu"
    batch_norm: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)
    input_noise: float = Field(0.0, ge=0, description="noise on the encoder's input, in x's units")
    skip: bool = Field(False, description="a linear path past the encoder's hidden layers")

    # objective
    alpha: ScheduleText = Field("30", description="weight of the classification term")
    kl_s: ScheduleText = Field("1", description="weight of the KL term of s")
    kl_z: ScheduleText = Field("1", description="weight of the KL term of z")
    kl_y: ScheduleText = Field("1", description="weight of the KL term of y")
    kl_a: ScheduleText = Field("1", description="weight of the KL term of a")

    balance: ScheduleText = Field(
        "0", description="weight of KL(mean of q(s|x) || p(s)), over a batch"
    )
    consistency: ScheduleText = Field(
        "0", description="weight of the cross-entropy between a row's and its augmented twin's s"
    )
    sparsity: ScheduleText = Field(
        "0", description="weight of a sparse Dirichlet prior on a learnt pi: small components empty"
    )

    # augmentation and pseudo-labels
    augment: str | None = Field(
        None, description="affine (images); of mirror,jitter,warp,rotate,drop (skeletons)"
    )
    reconstruct: Literal["augmented", "clean"] = Field(
        "augmented", description="what the decoder explains of an augmented row"
    )
    joint_dropout: float = Field(0.5, ge=0, lt=1, description="most joints augment=drop hides")
    pseudo_threshold: float | None = Field(
        None, gt=0, le=1, description="label rows an averaged copy is this sure of; none: off"
    )
    pseudo_balance: bool = Field(False, description="assume equal classes when pseudo-labelling")
    pseudo_from: int = Field(200, ge=0, description="first step with pseudo-labels")
    pseudo_decay: float = Field(0.99, ge=0, lt=1, description="of the averaged copy, per step")
    pseudo_every: int = Field(20, ge=1, description="steps between labels of whole sequences")

    # fit
    init: Literal["random", "kmeans", "ae-gmm"] = Field(
        "random", description="clusters that the first steps take as labels"
    )
    epochs: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    batch_size: int = Field(128, ge=2)
    labelled_per_batch: int = Field(50, ge=0, description="class-balanced labelled rows per batch")
    learning_rate: float = Field(2e-3, gt=0)
    decay: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, decoupled from the gradient")
    clip_norm: float = Field(200.0, ge=0, description="largest gradient norm; 0: none")
    patience: int = Field(0, ge=0, description="epochs without improvement to stop; 0: never")
    checkpoint_seconds: float = Field(30.0, ge=0)
    log: Names = Field((), description="besides history.csv: tensorboard, mlflow")
    deterministic: bool = False
    engine: Literal["auto", "svi", "captured", "compiled"] = "auto"
    precision: Literal["f32", "bf16", "f64"] = Field(
        "f32", description="bf16: of the operands of matrix products, while fitting"
    )
    verify: bool = Field(True, description="check a captured step against eager evaluation")

    def replace(self, **changes: Any) -> "Config":
        """A copy with some keys changed, checked again."""
        return configure(self.model_dump(), changes)


def configure(*layers: Mapping[str, Any]) -> Config:
    """A configuration from layers of keys, later ones over earlier ones.

    Raises:
        GMMVAEError: an unknown key (with its nearest match) or a value out of range.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if key not in Config.model_fields:
                raise unknown_name("key", key, list(Config.model_fields))
            merged[key] = value
    try:
        return Config(**merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise GMMVAEError(f"{name}: {first['msg']}, not {merged[name]!r}") from error


def read_config(path: Path) -> dict[str, Any]:
    """Read the keys of a TOML file; "none" stands for None, which TOML does not have.

    Raises:
        GMMVAEError: as :func:`pyro_gmmvae.files.read_toml`.
    """
    return {key: None if value == "none" else value for key, value in read_toml(path).items()}
