"""What the explorer computes: one model, one lock, and what is computed once for all requests."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bype.core.errors import InputError, first_line
from bype.core.numbers import readable
from bype.core.torch_state import fixed_torch_state
from bype.data.images import Images
from bype.data.items import Items, named_items
from bype.evaluation.latents import latents
from bype.evaluation.likelihood import Progress
from bype.evaluation.neighbours import Nearest, nearest_by_pixels, neighbours
from bype.evaluation.scores import Scores, score
from bype.explorer.components import Components
from bype.explorer.sources import Source
from bype.models.generation import decode_line, sample_among
from bype.models.observing import model_inputs
from bype.runs.items import read_upload
from bype.runs.reference import reference_scores
from bype.runs.run import LoadedRun
from bype.viz.explorer import About, Drawn, Look, Named, Point, Points, Slide
from bype.viz.sheets import Sheet, Tile

DRAWN, NEAREST, STEPS, PAGE = 24, 8, 21, 100


class Session:
    """A loaded run for many requests at once: its model is used by one at a time.

    Args:
        loaded: The run.
        samples: Importance samples for the score of an image.
        items: Test items that an image is ranked among, at most.
        name: The name of the refit that the model was loaded with, if any.
        tell: Called with a line of text before each part of the preparation.
        progress: Called with the number of scored test items and their total.

    Raises:
        InputError: If the model is of a table, or has values that are not finite.
    """

    def __init__(
        self,
        loaded: LoadedRun,
        *,
        samples: int = 100,
        items: int = 200,
        name: str | None = None,
        tell: Callable[[str], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        tell = tell or (lambda line: None)
        self._loaded, self._model, self._samples, self._lock = loaded, loaded.model.eval(), samples, threading.Lock()
        self._spec = self._model.input_spec
        where = loaded.run.path
        if self._spec.table is not None:
            raise InputError(
                f"{where}: expected a run of images, got one of a table; see `bype score` and `bype sample`"
            )
        self._model.check_finite()
        self._notes: list[str] = []
        self._has_data = self._read_data()
        self._reference: Tensor | None = None
        self._latents: Tensor | None = None
        tell(f"explore {where}: components")
        self._components = Components(self._model, loaded.data if self._has_data else None)
        if self._has_data:
            tell(f"explore {where}: latents of {len(loaded.data.train)} training images")
            self._latents = latents(self._model, loaded.data.train)
            tell(f"explore {where}: scores of test images")
            self._reference = reference_scores(loaded, samples, items, name=name, progress=progress)
        self.about = self._described()

    def _read_data(self) -> bool:
        try:
            _ = self._loaded.data.train
        except InputError as e:
            self._notes.append(
                f"Without the data there are no test images, neighbours, classes and ranks: {first_line(e)}"
            )
            return False
        self._loaded.attach_items()
        return True

    def _described(self) -> About:
        config = self._loaded.run.config
        c, h, w = self._spec.shape
        return About(
            str(self._loaded.run.path),
            f"A model of {Path(config.set).name} with prior {config.prior}, architecture {config.arch}, likelihood "
            f"{config.likelihood} and {config.latent_dim} latent dimensions.",
            self._notes,
            self._components.classes,
            self._components.points,
            len(self._components),
            len(self._loaded.data.test) if self._has_data else 0,
            f"{h} x {w} pixels, {'grey' if c == 1 else 'colour'}",
        )

    def sheet(self, name: str = "e") -> Sheet:
        """An empty sheet for images of the model's shape."""
        return Sheet(name, self._spec.shape)

    def draw(self, source: Source, seed: int, sheet: Sheet) -> Drawn:
        """Draws samples of a source.

        Args:
            source: What is drawn from.
            seed: Seed of the noise.
            sheet: Takes the images.

        Raises:
            InputError: If there is no such component, class or test image.
        """
        generator = torch.Generator(self._spec.device).manual_seed(seed)
        again = f"{source.query}&seed={seed + 1}".removeprefix("&")
        with self._computing():
            model, parts, shown, near = self._model, self._components, None, list[Named]()
            p = parts.density
            if source.kind == "point":
                m = self._checked(source.value, len(parts), "a component")
                title = f"Component {m}, weight {readable(100 * parts.weights[m].item())} %"
                if parts.labels:
                    title += f", (nearest) training image of class {parts.labels[m]}"
                images = model.sample(DRAWN, component=m, prior=p, generator=generator).images
                point = parts.image(m)
                if point is not None:
                    shown = sheet.add(point)[0]
                    near = self._nearest_to_point(point, sheet)
            elif source.kind == "class":
                among = parts.of_class(source.value)
                if not len(among):
                    raise InputError(f"expected a class, one of {_some(parts.classes)}, got {source.value!r:.60}")
                title = f"{len(among)} components whose (nearest) training image is of class {source.value}"
                images = sample_among(model, DRAWN, among, prior=p, generator=generator).images
            elif source.kind == "item":
                item = self._test_item(source.value)
                title = f"Around {_captioned(item)}"
                images = model.sample(DRAWN, like=item.images, prior=p, generator=generator).images
                shown = sheet.add(item.images.scaled())[0]
            else:
                title = f"{DRAWN} samples of the prior"
                images = model.sample(DRAWN, prior=p, generator=generator).images
            return Drawn(title, sheet.add(images), shown, near, again, source.kind, source.value)

    def points(self, page: int, sheet: Sheet) -> Points | None:
        """The points of one page, the largest weight first; None if the prior has none."""
        parts = self._components
        if not parts.points:
            return None
        pages = -(-parts.points // PAGE)
        page = min(max(page, 1), pages)
        order = parts.order[(page - 1) * PAGE : page * PAGE]
        with self._computing():
            images = parts.images(order)
        assert images is not None
        weights = [f"{readable(100 * w)} %" for w in parts.weights[order].tolist()]
        tiles = sheet.add(images)
        return Points([Point(*one) for one in zip(order.tolist(), tiles, weights, strict=True)], page, pages)

    def slide(self, start: Items | str, end: Items | str, sheet: Sheet) -> Slide:
        """The images along the line in z from one image to another.

        Args:
            start: An image, or the number of a test image, or without data of a point.
            end: As `start`.
            sheet: Takes the images.

        Raises:
            InputError: If there is no such number.
        """
        with self._computing():
            ends = [self._numbered(given) if isinstance(given, str) else given for given in (start, end)]
            a, b = (self._model.encoder(self._inputs(item)).loc for item in ends)
            steps = decode_line(self._model, a, b, STEPS)[0]
        return Slide(_captioned(ends[0]), _captioned(ends[1]), sheet.add(steps), _number(start), _number(end))

    def look(self, given: Items | str, sheet: Sheet) -> Look:
        """Reconstructs and scores an image, and finds its neighbours.

        Args:
            given: An image, or the number of a test image.
            sheet: Takes the images.

        Raises:
            InputError: If there is no such test image.
        """
        with self._computing():
            item = self._test_item(given) if isinstance(given, str) else given
            x = self._inputs(item)
            image, back = sheet.add(x)[0], sheet.add(self._model.reconstruct(x))[0]
            scores = score(
                self._model, item.images, self._samples, reference=self._reference, prior=self._components.density
            )
            latent: list[Named] = []
            pixel: list[Named] = []
            if self._has_data:
                data = self._loaded.data
                near = neighbours(
                    self._model, data, item.images, min(NEAREST, len(data.train)), train_latents=self._latents
                )
                latent, pixel = (self._named(part, sheet) for part in near)
        return Look(_captioned(item), image, back, self._figures(scores), latent, pixel, _number(given))

    def read(self, content: bytes, name: str, *, invert: bool = False) -> Items:
        """An own image, cropped and scaled to the model's size.

        Args:
            content: The bytes of an image file.
            name: Its name.
            invert: Whether light and dark are swapped.

        Raises:
            InputError: If it is no image.
        """
        with self._lock:
            item = read_upload(self._loaded, content, name)
        if not invert:
            return item
        stored = item.images.stored()
        return replace(item, images=Images((1 if stored.is_floating_point() else 255) - stored))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """One request at a time; the lock is outside, since torch's settings are those of the whole process."""
        with self._lock, fixed_torch_state(grad=False):
            yield

    def _inputs(self, item: Items) -> Tensor:
        return torch.cat(list(model_inputs(self._model, item.images, seed=0)))

    def _numbered(self, number: str) -> Items:
        """A test image, or without data a point."""
        if self._has_data or not self._components.points:
            return self._test_item(number)
        m = self._checked(number, self._components.points, "a point")
        point = self._components.image(m)
        assert point is not None
        return Items(Images(point.clamp(0, 1), None, None), (f"point {m}",))

    def _test_item(self, number: str) -> Items:
        if not self._has_data:
            raise InputError("test image: the data of the run are not found; give an image file")
        data = self._loaded.data
        i = self._checked(number, len(data.test), "a test image")
        return named_items(data, self._loaded.run.config.set, "test", slice(i, i + 1))

    @staticmethod
    def _checked(text: str, count: int, what: str) -> int:
        if not count:
            raise InputError(f"{what}: this model has none")
        if not (text.isdecimal() and text.isascii() and len(text) < 12 and int(text) < count):
            raise InputError(f"expected the number of {what} from 0 to {count - 1}, got {text!r:.60}")
        return int(text)

    def _nearest_to_point(self, point: Tensor, sheet: Sheet) -> list[Named]:
        if not self._has_data:
            return []
        train = self._loaded.data.train
        return self._named(nearest_by_pixels(point.double(), train, min(NEAREST, len(train))), sheet)

    def _named(self, nearest: Nearest, sheet: Sheet) -> list[Named]:
        data, rows = self._loaded.data, nearest.rows[0]
        tiles: list[Tile] = sheet.add(data.train.scaled(rows))
        labels = data.train.labels
        near = zip(tiles, rows.tolist(), nearest.distances[0].tolist(), strict=True)
        return [
            Named(
                tile,
                ("" if labels is None else f"label {data.label_name(int(labels[row]))}, ")
                + f"training item {row}, distance {readable(distance)}",
            )
            for tile, row, distance in near
        ]

    def _figures(self, scores: Scores) -> list[tuple[str, str, str]]:
        figures = []
        if scores.more_unusual_than is not None and self._reference is not None:
            share = readable(round(scores.more_unusual_than.item(), 1))
            figures.append((
                "more unusual than", f"{share} %",
                f"of the first {len(self._reference)} test images, which have a higher log-likelihood",
            ))  # fmt: skip
        figures.append((
            "log-likelihood", f"{readable(scores.log_likelihood.item())} nats",
            f"importance-weighted bound on log p(x), {self._samples} samples; higher is more usual",
        ))  # fmt: skip
        figures.append((
            "evidence lower bound", f"{readable(scores.elbo.item())} nats", "mean bound of single samples"
        ))  # fmt: skip
        if scores.bpd is not None:
            figures.append((
                "bits per dimension", readable(scores.bpd.item()), "the same per pixel value; lower is more usual"
            ))  # fmt: skip
        return figures


def _captioned(item: Items) -> str:
    label = item.labels[0] if item.labels else ""
    return item.names[0] + (f", label {label}" if label else "")


def _number(given: Items | str) -> str:
    return given if isinstance(given, str) else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) or "none"
