"""The networks of tables: an MLP on standardised columns, and the likelihood of real, binary and categorical ones."""

from typing import NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from bype.core.errors import InputError
from bype.data.tables import TableSpec
from bype.distributions.columns import ColumnLayout, MixedColumns, log_sum
from bype.networks.architecture import Networks
from bype.networks.likelihoods import Likelihood, raw_scale_of, scale_of
from bype.networks.mlp import MLPDecoder, MLPEncoder


class _Places(NamedTuple):
    normal: list[int]
    binary: list[int]
    groups: list[tuple[int, int]]


def _places(table: TableSpec) -> _Places:
    return _Places(
        [start for start, _ in table.places("normal")],
        [start for start, _ in table.places("binary")],
        table.places("categorical"),
    )


class Mixed(Likelihood):
    """Normal, Bernoulli and categorical columns around the decoder's output; densities in the units of the table.

    Each real column has a learned standard deviation, not a function of z. It stays above 1 % of the column's own, so
    that a column of few distinct values cannot make the density infinite.

    Args:
        table: The columns.
    """

    floor = 0.01

    def __init__(self, table: TableSpec) -> None:
        super().__init__()
        self.table: TableSpec = table
        self._places = _places(table)
        normal = table.of_kind("normal")
        self.span: Tensor
        self.register_buffer("span", torch.tensor([c.span for c in normal]), persistent=False)
        self._log_jacobian = log_sum([c.sd for c in normal])
        self.raw_scale = nn.Parameter(raw_scale_of(torch.full((len(normal),), 0.5), self.floor))

    @property
    def scale(self) -> Tensor:
        """The standard deviations of the standardised real columns, (n_normal,)."""
        return scale_of(self.raw_scale, self.floor)

    def forward(self, image: Tensor) -> MixedColumns:
        """p(x|z), for an output (\\*batch, 1, 1, D) of standardised means, log-odds and log-probabilities."""
        places = self._places
        layout = ColumnLayout(places.normal, places.binary, places.groups, self.span, self._log_jacobian)
        return MixedColumns(image, self.scale, layout)


class TableEncoder(MLPEncoder):
    """q(z|x) by two gated dense layers on the standardised columns; binary ones are -1 or 1.

    Args:
        table: The columns.
        hidden_dim: The width of both hidden layers.
        latent_dim: The dimension D of z.
    """

    def __init__(self, table: TableSpec, hidden_dim: int, latent_dim: int) -> None:
        super().__init__(table.shape, hidden_dim, latent_dim)
        span = torch.full((table.width,), 2.0)
        for place, column in zip(_places(table).normal, table.of_kind("normal"), strict=True):
            span[place] = column.span
        self.span: Tensor
        self.register_buffer("span", span, persistent=False)

    def rows(self, x: Tensor) -> Tensor:
        """The standardised columns, (n, D)."""
        return self.span * (x.flatten(1) - 0.5)


def build(table: TableSpec, hidden_dim: int, latent_dim: int) -> Networks:
    """The networks of a table."""
    encoder = TableEncoder(table, hidden_dim, latent_dim)
    return Networks(encoder, MLPDecoder(table.shape, Mixed(table), hidden_dim, latent_dim))


def refuse_images(shape: tuple[int, int, int]) -> NoReturn:
    """The likelihood `mixed` of images, which there is none of."""
    raise InputError("likelihood mixed: expected a table, got images; use --likelihood gaussian")
