"""The configuration keys of a fit: those of every fit, and those of its model and guide."""

import functools
import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BeforeValidator, Field, create_model
from pydantic.fields import FieldInfo

from pyro_gmmvae.config import Config, validate
from pyro_gmmvae.datasets import presets_of
from pyro_gmmvae.errors import GMMVAEError, UnknownNameError, nearest, unknown_name
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.key_types import Names, Number, Schedule, split_list
from pyro_gmmvae.lazy import Declaration, PartTable
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.objectives import LATENT_TERMS, REGULARIZERS

Fields = Mapping[str, tuple[Any, Any]]

# parameters of models that are built from other keys and from the data, with their keys
SHARED: Mapping[str, Fields] = {
    **{name: {} for name in ("x_shape", "latent_dim", "network", "likelihood", "options", "guide")},
    "components": {
        "components": (
            int | None,
            Field(
                None,
                ge=1,
                le=1_000_000,
                description="Number of components K; none: the number of classes.",
            ),
        ),
        "extra_components": (
            int,
            Field(
                0,
                ge=0,
                le=1_000_000,
                description="Components beyond one per class, for unknown people.",
            ),
        ),
    },
    "factors": {
        "factors": (
            Names,
            Field((), description="Further factors: NAME (its labels are used), or NAME=K."),
        ),
    },
}
# keys of every fit that only a model with a latent class uses
LABEL_KEYS = frozenset(
    {
        "alpha",
        "pseudo_alpha",
        "init",
        "labelled_elbo",
        "class_rows",
        "teacher",
        "teacher_share",
        "graph_neighbors",
        "elbo_weight",
    }
    | {f"pseudo_{key}" for key in ("threshold", "balance", "from", "decay", "every")}
)


BUDGETS = ("epochs", "steps", "minutes")


class FitConfig(Config):
    """A configuration with the keys of its model and guide."""

    def __reduce__(self) -> tuple[Any, ...]:
        # the class was made for the model and guide, and can't be pickled by its name
        return functools.partial(configure, given=self.given), (dict(self),)

    def _changed(self, changes: Mapping[str, Any], given: Collection[str]) -> Config:
        return configure(dict(self), changes, given=given)


def configure(*layers: Mapping[str, Any], given: Collection[str] | None = None) -> Config:
    """A configuration from layers of keys, later ones over earlier ones.

    Args:
        layers: keys and values.
        given: the keys that count as given by the user, None: all. A key that was not given, and
            that the fit does not have, is left out.

    Raises:
        GMMVAEError: an unknown model, guide or key (with its nearest match), a key of another
            model or guide, or a value out of range.
    """
    values = {key: value for layer in layers for key, value in layer.items()}
    model = values.get("model", Config.model_fields["model"].default)
    guide = values.get("guide")
    for key, name in (("model", model), ("guide", "" if guide is None else guide)):
        if not isinstance(name, str):
            raise GMMVAEError(f"{key}: a name is needed, not {name!r}")
    fit_class = config_class(model, guide)
    for key in [key for key in values if key not in fit_class.model_fields]:
        if given is None or key in given:
            raise unknown_key(key, model, guide)
        del values[key]
    return validate(fit_class, values, given)


def default_config(data: str, *layers: Mapping[str, Any]) -> Config:
    """The defaults, then the data set's preset, then layers of keys over them.

    Raises:
        GMMVAEError: an unknown key or preset, or a value out of range.
    """
    presets, default = presets_of(data)
    named = [layer["preset"] for layer in layers if layer.get("preset") is not None]
    preset = str(named[-1]) if named else default
    if preset not in presets:
        raise unknown_name("preset", preset, list(presets))
    merged: dict[str, Any] = {"data": data}
    own = Config.model_fields["model"].default
    model = next((layer["model"] for layer in layers[::-1] if "model" in layer), own)
    # the guide of a preset is for the default model; the key_defaults of a model define it
    fixed = {"guide", *key_defaults(model)} if model != own else set()
    named_keys = {k: v for k, v in presets[preset].items() if k not in fixed}
    for layer in ({"epochs": 100}, named_keys, *layers, {"preset": preset}):
        if any(layer.get(key) is not None for key in BUDGETS):
            merged |= dict.fromkeys(BUDGETS)  # a new budget replaces the one before
        merged |= layer
    return configure(merged, given={"data", *(key for layer in layers for key in layer)})


def usual_values(config: Config) -> dict[str, Any]:
    """The values of a configuration's keys where only its data and preset are given."""
    layer = {"preset": config.preset, "model": config.model}
    layer |= {} if config.guide is None else {"guide": config.guide}
    fields = Config.model_fields
    own = {key: fields[key].default for key in ("model", "guide")}
    return default_config(config.data, layer).model_dump() | own


def key_defaults(model: object) -> Mapping[str, Any]:
    """The defaults of keys that make a model what it is; empty for an unknown name."""
    known = isinstance(model, str) and model in MODELS
    return (MODELS.declaration(str(model)).attributes.get("key_defaults") or {}) if known else {}


def takes_guide(model: str) -> bool:
    """Whether a model has a choice of guides.

    Raises:
        GMMVAEError: an unknown name.
    """
    return "guide" in _declarations(model, None)[0].parameters


def own_keys(model: str, guide: str | None = None) -> dict[str, FieldInfo]:
    """The keys of a model and of its guide, beside those of every fit."""
    fields = _own_fields(*_declarations(model, guide))
    return {
        key: FieldInfo.from_annotated_attribute(annotation, field)
        for key, (annotation, field) in fields.items()
    }


def all_keys() -> dict[str, FieldInfo]:
    """The keys of every fit, then those of all models and guides."""
    keys = dict(Config.model_fields)
    for model in MODELS:
        for guide in GUIDES if takes_guide(model) else (None,):
            keys = own_keys(model, guide) | keys
    return {key: keys[key] for key in (*Config.model_fields, *(keys - Config.model_fields.keys()))}


def config_class(model: str, guide: str | None = None) -> type[Config]:
    """The class of configurations of a model with a guide (None: the model's own).

    Raises:
        GMMVAEError: an unknown name, with its nearest match.
    """
    return _config_class(*_declarations(model, guide))


def _declarations(model: str, guide: str | None) -> tuple[Declaration, Declaration | None]:
    """The declarations of a model and of its guide, by default the model's own."""
    try:
        of_model = MODELS.declaration(model)
    except KeyError:
        raise unknown_name("model", model, list(MODELS)) from None
    if guide is None and (guide := _default_guide(of_model)) is None:
        return of_model, None
    try:
        of_guide = GUIDES.declaration(guide)
    except KeyError:
        raise unknown_name("guide", guide, list(GUIDES)) from None
    return of_model, of_guide if "guide" in of_model.parameters else None


@functools.cache
def _default_guide(model: Declaration) -> str | None:
    if "guide" not in model.parameters:
        return None
    default = model.parameters["guide"].default
    names = [name for name in GUIDES if GUIDES.declaration(name).name == default.__name__]
    return names[0] if names else None


@functools.cache
def _config_class(model: Declaration, guide: Declaration | None) -> type[Config]:
    """The class of configurations of a model with a guide."""
    definitions: Any = _own_fields(model, guide)
    made: type[Config] = create_model("FitConfig", __base__=FitConfig, **definitions)
    made.class_site = model.attributes.get("class_site")
    made.own_guide = _default_guide(model)
    declared = [d.attributes.get("default_objective") for d in (guide, model) if d]
    made.own_objective = next((name for name in declared if name), "analytic")
    made.model_keys = tuple(_own_parameters(model, guide))
    made.guide_keys = () if guide is None else tuple(_own_parameters(guide))
    made.shared_parameters = frozenset(SHARED.keys() & model.parameters.keys())
    return made


@functools.cache
def _own_fields(model: Declaration, guide: Declaration | None) -> Fields:
    """The types and fields of the keys that not every fit has."""
    fields: dict[str, tuple[Any, Any]] = {}
    for name in SHARED.keys() & model.parameters.keys():
        fields |= SHARED[name]
    for declaration in (model,) if guide is None else (model, guide):
        for name, parameter in _own_parameters(declaration, guide).items():
            meaning = declaration.meanings.get(name, "").removesuffix(".")
            default = parameter.default
            if default is inspect.Parameter.empty:
                default = ...
            fields[name] = _type_of(parameter), Field(default, description=meaning)
    latents = model.attributes.get("latents") or ()
    for site in latents:
        meaning = f"weight of the KL term of {site}"
        fields[f"kl_{site}"] = Schedule, Field(Schedule.constant(1), description=meaning)
    of_classes = bool(model.attributes.get("class_site"))
    sites = {"class"} if of_classes else set()
    fields |= _fields_of_terms(REGULARIZERS, sites)
    if "z" in latents:
        fields |= _fields_of_terms(LATENT_TERMS, sites | {"z"})
    for name, value in (model.attributes.get("key_defaults") or {}).items():
        kind, field = fields[name]
        own = Schedule.parse(value) if kind is Schedule else value
        fields[name] = kind, Field(own, description=field.description)
    return {name: fields[name] for name in sorted(fields) if name not in Config.model_fields}


def _fields_of_terms(terms: PartTable[Any], sites: Collection[str]) -> Fields:
    """The weight of each term of the objective on one of these sites, and its parameters."""
    fields: dict[str, tuple[Any, Any]] = {}
    for name in terms:
        declared = terms.declaration(name)
        if declared.attributes.get("site", "class") not in sites:
            continue
        meaning = f"weight of {declared.summary}"
        fields[name] = Schedule, Field(Schedule.constant(0), description=meaning)
        for key, parameter in _own_parameters(declared).items():
            meaning = declared.meanings.get(key, "").removesuffix(".")
            value = Field(parameter.default, description=meaning)
            fields[f"{name}_{key}"] = _type_of(parameter), value
    return fields


def _own_parameters(
    declaration: Declaration, guide: Declaration | None = None
) -> dict[str, inspect.Parameter]:
    """The parameters that are keys, without those that have no meaning under a guide."""
    unused = () if guide is None else guide.attributes.get("unused_keys") or ()
    return {
        name: parameter
        for name, parameter in declaration.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        and name not in SHARED
        and name not in unused
    }


def _type_of(parameter: inspect.Parameter) -> Any:
    """The type of a key: of a constructor's parameter, or else of its default."""
    if get_origin(parameter.annotation) is Literal:
        return parameter.annotation
    parts = [_field_type(one) for one in get_args(parameter.annotation) or [parameter.annotation]]
    if get_origin(parameter.annotation) in (tuple, Sequence):
        parts = [_field_type(parameter.annotation)]
    if None in parts:
        return type(parameter.default) if parameter.default is not None else Any
    return functools.reduce(lambda one, other: one | other, parts)


def _field_type(annotation: Any) -> Any:
    """The type of a field for one part of an annotation; None: it can't be checked."""
    if annotation is float:
        return Number
    if get_origin(annotation) in (tuple, Sequence):
        item: Any = get_args(annotation)[0]
        return Annotated[tuple[item, ...], BeforeValidator(split_list)]
    known = annotation in (int, bool, str, type(None)) or get_origin(annotation) is not None
    return annotation if known else None


def unknown_key(key: str, model: str, guide: str | None) -> GMMVAEError:
    """The error for a key that a fit does not have; it names its models, or the nearest key."""
    of_guide = _declarations(model, guide)[1]
    if of_guide is not None and key in (of_guide.attributes.get("unused_keys") or ()):
        return GMMVAEError(
            f"the guide {guide!r} does not use {key}, because its s is as relaxed as the prior's; "
            "set prior_temperature, or choose another guide"
        )
    models = [name for name in MODELS if key in _own_fields(*_declarations(name, None))]
    guides = [name for name in GUIDES if key in _own_parameters(GUIDES.declaration(name))]
    if models:
        weights = [name for name in own_keys(model, guide) if name.startswith("kl_")]
        has = f" (it has {_listed(weights)})" if key.startswith("kl_") and weights else ""
        return GMMVAEError(
            f"{key} is not a key of the model {model!r}{has}; leave it out, or choose a model that "
            f"has it ({_listed(models)})"
        )
    if guides:
        named = guide or config_class(model).own_guide
        whom = f"the model {model!r}" if named is None else f"the guide {named!r}"
        return GMMVAEError(
            f"{key} is not a key of {whom}; leave it out, or choose a guide that has it "
            f"({_listed(guides)})"
        )
    own = own_keys(model, guide)
    near = nearest(key, [*own, *Config.model_fields])
    hint = f"did you mean {near!r}? The" if near else "the"
    return UnknownNameError(
        f"unknown key {key!r}; {hint} model {model!r} has {', '.join(own)}, and every fit has "
        "the keys of 'gmmvae list keys'"
    )


def _listed(names: Iterable[str]) -> str:
    first = [*names][:4]
    return ", ".join(first) + (", ..." if len([*names]) > len(first) else "")
