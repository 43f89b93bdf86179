"""Images, latents and scores of one loaded run, as the parts of a report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bype.core.errors import InputError, first_line
from bype.core.numbers import readable
from bype.core.torch_state import fixed_torch_state
from bype.data.items import Items
from bype.distributions.mixtures import NormalMixture
from bype.evaluation.latents import in_two_dimensions, latents
from bype.evaluation.likelihood import log_likelihood
from bype.evaluation.metrics import in_nats, knn_of_split
from bype.evaluation.neighbours import nearest_by_pixels
from bype.models.generation import decode_line
from bype.models.observing import model_inputs
from bype.runs.evaluations import Evaluations
from bype.runs.items import own_items
from bype.runs.run import LoadedRun
from bype.viz.report import Dot, Picture, Point, Ranked, RunPart
from bype.viz.sheets import Sheet, Tile
from bype.viz.vector import line_chart

PAIRS, DRAWN, LINES, STEPS, RANKED, OF_POINT, NEAREST = 24, 48, 4, 9, 10, 8, 5
#: Values of pixels on a page, for the items of a map and for points with their samples; together some 3 MB.
MAP_VALUES, POINT_VALUES = 1_000_000, 1_500_000
MAX_DOTS, MAX_POINTS = 1500, 200


@dataclass(frozen=True)
class Limits:
    """Importance samples, test items, seed, and the number of runs that share a page."""

    samples: int
    items: int
    seed: int
    runs: int


class RunShower:
    """Fills the part of a page on one run.

    Args:
        loaded: The run.
        name: A short name for its sheets.
        part: The part of the page, which is filled.
        limits: Sizes.
    """

    def __init__(self, loaded: LoadedRun, name: str, part: RunPart, limits: Limits) -> None:
        self.loaded, self.model, self.part, self.limits = loaded, loaded.model.eval(), part, limits
        self.shape = loaded.model.input_spec.shape
        self.pictures = self.shape[1] > 1  # the rows of a table have one row of "pixels"
        self.size = math.prod(self.shape)
        self.drawn, self.items = Sheet(f"m{name}", self.shape), Sheet(f"d{name}", self.shape)
        self.generator = torch.Generator(loaded.device).manual_seed(limits.seed)

    @fixed_torch_state(grad=False)
    def show(self) -> list[Sheet]:
        """Fills the part; returns the sheets that it uses."""
        if not self.pictures:
            self.part.notes.append("The rows of a table have no pictures: images are left out.")
        else:
            samples = self.model.sample(DRAWN, generator=self.generator)
            self.part.samples = self.drawn.add(samples.images)
        has_data = self._checked_data()
        if self.pictures:
            self._points(has_data)
        if has_data:
            self._show_items()
        return [self.drawn, self.items] if self.pictures else []

    def _checked_data(self) -> bool:
        try:
            return len(self.loaded.data.test) > 0
        except InputError as e:
            self.part.notes.append(f"What needs the data is left out: {first_line(e)}")
            return False

    def _show_items(self) -> None:
        found = own_items(self.loaded, "test")
        count = min(len(found), self.limits.items, MAX_DOTS, max(100, MAP_VALUES // self.size // self.limits.runs))
        tiles: Sequence[Tile | None] = [None] * count
        if self.pictures:
            x = torch.cat(list(model_inputs(self.model, found.images.first(count), self.limits.seed)))
            own = self.items.add(x)
            tiles = own
            back = self.drawn.add(self.model.reconstruct(x[:PAIRS]))
            self.part.reconstructions = list(zip(own[:PAIRS], back, strict=False))
            self._interpolations(found)
        self._map(found, tiles)
        self._ranking(found, min(len(found), self.limits.items))
        self.part.knn = self._knn()

    def _points(self, has_data: bool) -> None:
        p = self.model.prior(self.model.encoder)
        if not isinstance(p, NormalMixture):
            return
        limit = max(10, min(MAX_POINTS, POINT_VALUES // self.size // (1 + OF_POINT + NEAREST) // self.limits.runs))
        weights = p.log_weights.exp()
        order = weights.argsort(descending=True, stable=True)[:limit]
        images = self.model.prior.points_at(order)
        if images is None:
            return
        z = torch.stack([p.component(m).sample((OF_POINT,), generator=self.generator) for m in order.tolist()])
        tiles = self.drawn.add(images)
        drawn = self.drawn.add(self.model.generate(z, generator=self.generator).flatten(0, 1))
        near = self._nearest(images) if has_data else [[] for _ in tiles]
        shown = "all" if len(order) == len(weights) else f"the {len(order)} of largest weight of all"
        self.part.points_title = (
            f"The components of the mixture, {shown} {len(weights)}, ordered by weight: the probability that a latent "
            f"is drawn from the component. Equal weights would be {readable(100 / len(weights))} % each."
        )
        self.part.points = [
            Point(m, tile, f"{readable(100 * weights[m].item())} %", drawn[i * OF_POINT : (i + 1) * OF_POINT], near[i])
            for i, (m, tile) in enumerate(zip(order.tolist(), tiles, strict=True))
        ]

    def _nearest(self, points: Tensor) -> list[list[tuple[Tile, str]]]:
        """For each point the nearest training items by Euclidean distance over the pixels."""
        data = self.loaded.data
        rows = nearest_by_pixels(points.float(), data.train, min(NEAREST, len(data.train))).rows.cpu()
        used, places = rows.unique(return_inverse=True)
        train = data.train[used.to(data.train.pixels.device)]
        tiles = self.drawn.add(train.scaled())
        labels = None if train.labels is None else [data.label_name(v) for v in train.labels.tolist()]
        named = [
            (tile, f"item {row}" + ("" if labels is None else f", label {labels[i]}"))
            for i, (tile, row) in enumerate(zip(tiles, used.tolist(), strict=True))
        ]
        return [[named[i] for i in line] for line in places.tolist()]

    def _interpolations(self, found: Items) -> None:
        if len(found) < 2:
            return
        pairs = torch.randperm(len(found), generator=self.generator, device=self.loaded.device)[: 2 * LINES]
        rows = pairs[: len(pairs) // 2 * 2].view(-1, 2)
        start, end = (self.model.encoder(found.images.scaled(i, dtype=self.model.dtype)).loc for i in rows.T)
        tiles = self.drawn.add(decode_line(self.model, start, end, STEPS).flatten(0, 1))
        self.part.interpolations = [tiles[i * STEPS : (i + 1) * STEPS] for i in range(len(rows))]

    def _map(self, found: Items, tiles: Sequence[Tile | None]) -> None:
        count = len(tiles)
        if count < 5:
            return
        means = latents(self.model, found.images.first(count), self.limits.seed)
        flat, how = in_two_dimensions(means, self.limits.seed)
        low, high = flat.amin(0), flat.amax(0)
        places = (flat - low) / (high - low).clamp(min=1e-12)
        classes = sorted(set(found.labels), key=lambda v: (len(v), v))
        self.part.classes = [c for c in classes if c] if len(classes) <= 10 else []
        self.part.map_title = f"{count} test items by the means of q(z|x), {how}" + (
            "; the colour is the label." if self.part.classes else "."
        )
        self.part.dots = [
            Dot(x, 1 - y, tile, classes.index(label) if self.part.classes else 0, _named(name, label))
            for (x, y), tile, name, label in zip(
                places.tolist(), tiles, found.names, found.labels or [""] * len(found), strict=False
            )
        ]

    def _ranking(self, found: Items, count: int) -> None:
        limits = self.limits
        whole = count == len(found)
        scoring = Evaluations(self.loaded).partial_scores(
            "test", samples=limits.samples, items=limits.items, seed=limits.seed
        )
        log_p = log_likelihood(
            self.model, found.images.first(count), limits.samples, seed=limits.seed, scoring=scoring
        ).double()
        nll = -in_nats(self.model, log_p, self.size)
        order = nll.argsort(stable=True).tolist()
        shown = min(RANKED, count // 2)

        def ranked(index: Sequence[int]) -> list[Ranked]:
            tiles: Sequence[Tile | None] = [None] * len(index)
            if self.pictures:
                tiles = self.items.add(found.images.scaled(torch.tensor(index, device=self.loaded.device)))
            labels = found.labels or [""] * len(found)
            return [
                Ranked(tile, _named(found.names[i], labels[i]), f"{readable(nll[i].item())} nats")
                for tile, i in zip(tiles, index, strict=True)
            ]

        if shown:
            self.part.usual, self.part.unusual = ranked(order[:shown]), ranked(order[::-1][:shown])
            self.part.ranked_title = (
                f"By the negative log-likelihood of {'all' if whole else 'the first'} {count} test items "
                f"({limits.samples} importance samples each); lower is more usual for the model."
            )

    def _knn(self) -> Picture | None:
        accuracy = knn_of_split(self.model, self.loaded.data, "test", seed=self.limits.seed)
        if not accuracy:
            return None
        lines = {"accuracy": (list(accuracy), list(accuracy.values()))}
        return line_chart(lines, "kNN accuracy on test items", "neighbours K", "accuracy (%)", markers=True)


def _named(name: str, label: str) -> str:
    return f"{name}, label {label}" if label else name
