"""Covariates of rows of a table: given to the decoder, and drawn where none are given."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.networks.columns import ColumnInputs


class Covariates(nn.Module):
    """The given columns of rows (B, D) of a table in the model's units -> features (B, width).

    Features are those that an encoder has for these columns, the mask of missing cells included.
    The values of the training rows are kept as their quantiles, ``Column.knots``; without knots
    all values of a category are equally frequent.

    Args:
        columns: of the table, of which at least one is given.

    Attributes:
        width: of the features.
        typical: (1, D), the median of each covariate of numbers and the most frequent value of
            each other one; NaN in all other entries.
    """

    places: Tensor
    quantiles: Tensor
    sizes: Tensor
    typical: Tensor
    of_value: Tensor
    codes: Tensor

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        places = [place for place, column in enumerate(columns) if column.given]
        own = [columns[place] for place in places]
        self.inputs = ColumnInputs(own)
        self.width = self.inputs.width
        values = [_values_of(column) for column in own]
        coded = [
            (number, float(code))
            for number, column in enumerate(own)
            if column.is_discrete
            for code in range(len(column.values))
        ]
        typical = torch.full((1, len(columns)), torch.nan)
        for place, column, one in zip(places, own, values, strict=True):
            typical[0, place] = one.mode()[0] if column.is_discrete else one.median()
        for name, constant in (
            ("places", torch.tensor(places)),
            ("quantiles", nn.utils.rnn.pad_sequence(values, batch_first=True)),
            ("sizes", torch.tensor([[len(one)] for one in values])),
            ("typical", typical),
            ("of_value", torch.tensor([number for number, _ in coded], dtype=torch.int64)),
            ("codes", torch.tensor([code for _, code in coded])),
        ):
            self.register_buffer(name, constant, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.inputs(x.index_select(-1, self.places))

    def groups(self, x: Tensor) -> Tensor:
        """(B, v) ones for the value of each discrete column of rows (B, D); of NaN all are 0."""
        codes = x.index_select(-1, self.places)[:, self.of_value]
        return (codes == self.codes).to(x.dtype)

    def draw(self, n: int, given: Tensor | None = None) -> Tensor:
        """Rows (n, D) with covariates, each drawn by itself from its values in the training rows.

        The draws do not depend on ``given``, so that with one seed draws of other variables are
        the same for all of its values.

        Args:
            n: the number of rows.
            given: rows (n, D) or (1, D) with covariates that are not drawn, NaN: drawn.
        """
        share = torch.rand(len(self.sizes), n, device=self.sizes.device)
        number = (share * self.sizes).long()
        rows = self.typical.repeat(n, 1)
        rows[:, self.places] = self.quantiles.gather(-1, number).T
        return rows if given is None else torch.where(given.isnan(), rows, given.to(rows))


def _values_of(column: Column) -> Tensor:
    """Values of a covariate, each as often as in the training rows."""
    values = torch.tensor(column.knots or [float(k) for k in range(len(column.values))])
    return values.round() if column.is_discrete or column.kind == "count" else values
