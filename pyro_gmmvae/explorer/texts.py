"""What the page says of its controls; names of classes are written so that they can't be markup."""

from html import escape

from pyro_gmmvae.explorer.pictures import Images, Poses, Profiles
from pyro_gmmvae.explorer.upload import KINDS, MOST_BYTES, MOST_ROWS
from pyro_gmmvae.explorer.view import View


def plain(text: str) -> str:
    """Text in which Bokeh sees no TeX."""
    return text.replace("$$", "$ $")


def markup(text: str) -> str:
    """Text in which HTML sees no markup, and Bokeh no TeX."""
    return escape(plain(text))


def shortened(text: str, letters: int) -> str:
    """The text, or its beginning and its end where it is longer."""
    if len(text) <= letters:
        return text
    end = (letters - 1) // 2
    return f"{text[: letters - 1 - end]}…{text[-end:]}"


def short_name(name: str) -> str:
    """A name for narrow places: a component that has none is "c7"."""
    number = name.removeprefix("component_")
    return f"c{number}" if number != name and number.isdecimal() else name


def help_texts(view: View) -> dict[str, str]:
    """A sentence or two for each part of the page."""
    return {
        "weights": _weights(view),
        "latent": _latent(view),
        "picture": _picture(view),
        "map": _map(view),
        "upload": _upload(view),
    }


def _weights(view: View) -> str:
    space = view.space
    if not space.sizes:
        return f"The model {view.run.config.model} has no class to set: its decoder sees z alone."
    if space.mixes:
        return (
            "Moving one renormalizes the others. p(z|s) is the product of the classes' Gaussians, "
            "raised to these weights."
        )
    return "Moving one renormalizes the others. Here p(z) is N(0, 1) whatever the class."


def _latent(view: View) -> str:
    space = view.space
    unit = "p(z|s)" if space.mixes else "p(z)"
    if not space.has_prior:
        unit = "the data's codes (an autoencoder has no prior)"
    along = "" if space.by_entry else f" Principal directions of the data's {space.size}-entry z."
    return f"In standard deviations of {unit} from its mean; at the right what z is.{along}"


def _picture(view: View) -> str:
    pictures = view.pictures
    if isinstance(pictures, Profiles):
        return f"The mean of p(x|z,s); unit: {pictures.unit}. Hover for the file's units."
    if isinstance(pictures, Poses):
        return "The mean of p(x|z,s), as a person."
    if isinstance(pictures, Images) and pictures.frames:
        return "The mean of p(x|z,s); time goes to the right, an entry per line."
    return "The mean of p(x|z,s)."


def _map(view: View) -> str:
    shown = f"{len(view.points.numbers)} of {len(view.rows.dataset.x)} rows"
    plane, words = view.plane, []
    if plane.share is not None:
        words.append(f"Principal components of the posterior means of {shown}.")
    elif not plane.names[1]:
        words.append(f"Posterior means of {shown}; their height means nothing.")
    else:
        words.append(f"Posterior means of {shown}.")
    if view.ellipses:
        what = "p(z|class)" if view.space.mixes else "p(z)"
        words.append(f"Ellipses: one standard deviation of {what}.")
    words.append("A click decodes the point of the plane; the ring shows where the sliders are.")
    if view.space.sizes:
        words.append("A click's class weights: q(s|x) of the row nearest to it, or the sliders'.")
    return " ".join(words)


def _upload(view: View) -> str:
    size = f"up to {MOST_BYTES / 1e6:.0f} MB"
    if view.run.schema.features is not None:
        what = f"A table of tracks (.csv, .npz), {size}."
    else:
        what = f"{KINDS}, {size}; the first {MOST_ROWS} rows."
    if not view.points.predicted:
        return f"{what} Without classes, this model only says how unusual rows are."
    return f"{what} Nothing of it is kept."
