"""The pages of the explorer as a Starlette application."""

import logging
import random
from collections.abc import Mapping, Sequence

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import Message

from bype.core.errors import InputError, first_line
from bype.core.numbers import parse_int
from bype.data.items import Items
from bype.explorer.guard import Guard, limited_body
from bype.explorer.session import Session
from bype.explorer.sources import Source
from bype.viz.explorer import draw_page, error_page, look_page, slide_page
from bype.viz.pages import page_file

log = logging.getLogger("bype")


def make_app(session: Session, names: Sequence[str] = ()) -> Guard:
    """The application of a session.

    Args:
        session: What computes.
        names: Names of this server besides its addresses and localhost.
    """
    pages = Pages(session)
    routes = [
        Route("/", pages.draw),
        Route("/slide", pages.slide, methods=["GET", "POST"]),
        Route("/image", pages.image, methods=["GET", "POST"]),
        Route("/explore.js", script),
    ]
    handlers = {HTTPException: pages.refused, InputError: pages.refused, Exception: pages.failed}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), names)


async def script(request: Request) -> Response:
    """The page's script."""
    return Response(page_file("explore.js"), media_type="text/javascript")


class Pages:
    """The pages. What computes runs in threads, so that the server answers meanwhile."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def draw(self, request: Request) -> Response:
        """Samples of the prior, a class, a component, or around a test image, and the points."""
        query = request.query_params
        source, seed, page = Source.of_query(query), _seed(query), parse_int(query.get("page", "1")) or 1

        def work() -> str:
            sheet = self._session.sheet()
            drawn = self._session.draw(source, seed, sheet)
            return draw_page(self._session.about, drawn, self._session.points(page, sheet), sheet)

        return HTMLResponse(await run_in_threadpool(work))

    async def slide(self, request: Request) -> Response:
        """The way from one image to another; each is a number or a file."""
        form = await _form(request) if request.method == "POST" else request.query_params
        ends = [await _upload(form, f"file-{end}") or form.get(end, "") for end in ("a", "b")]

        def work() -> str:
            about, sheet = self._session.about, self._session.sheet()
            count = about.tests or about.points
            # Another pair is proposed, not drawn from a seed: no figure depends on it.
            other = "&".join(f"{end}={random.randrange(count)}" for end in "ab") if count else ""
            if not any(ends):
                return slide_page(about, None, other, [sheet])
            if not all(ends):
                raise InputError("Expected two images, got one: give a number or a file for each end.")
            first, second = (self._read(end) for end in ends)
            return slide_page(about, self._session.slide(first, second, sheet), other, [sheet])

        return HTMLResponse(await run_in_threadpool(work))

    async def image(self, request: Request) -> Response:
        """One image: a file or a test image."""
        form = await _form(request) if request.method == "POST" else request.query_params
        given = await _upload(form, "file") or form.get("item", "")
        invert = bool(form.get("invert"))

        def work() -> str:
            sheet = self._session.sheet()
            if not given:
                if request.method == "POST":
                    raise InputError("Expected an image file, got none.")
                return look_page(self._session.about, None, [sheet])
            item = self._read(given, invert=invert)
            return look_page(self._session.about, self._session.look(item, sheet), [sheet])

        return HTMLResponse(await run_in_threadpool(work))

    def _read(self, given: "Upload | str | UploadFile", *, invert: bool = False) -> Items | str:
        if isinstance(given, Upload):
            return self._session.read(given.content, given.name, invert=invert)
        return str(given)

    async def refused(self, request: Request, error: Exception) -> Response:
        """What cannot be answered, in one sentence."""
        code = error.status_code if isinstance(error, HTTPException) else 400
        text = error.detail if isinstance(error, HTTPException) else str(error)
        if code == 404:
            text = "There is no such page."
        return HTMLResponse(error_page(self._session.about, " ".join(text.split())), code)

    async def failed(self, request: Request, error: Exception) -> Response:
        """An error of the explorer itself."""
        log.error("explore: %s: %s", type(error).__name__, first_line(error))
        text = f"This failed on the server: {type(error).__name__}: {first_line(error)}"
        return HTMLResponse(error_page(self._session.about, text), 500)


class Upload:
    """The name and content of a file."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name, self.content = name[-80:] or "image", content


async def _form(request: Request) -> FormData:
    """The form of a request, whose body is limited."""
    body = await limited_body(request.headers, request.receive)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return await Request(request.scope, receive).form(max_files=2, max_fields=8, max_part_size=1000)


async def _upload(form: Mapping[str, UploadFile | str], name: str) -> Upload | None:
    """The file in a field; None if none was chosen."""
    file = form.get(name)
    if not isinstance(file, UploadFile):
        return None
    content = await file.read()
    await file.close()
    return Upload(file.filename, content) if file.filename else None


def _seed(query: Mapping[str, str]) -> int:
    seed = parse_int(query.get("seed", "0"))
    if seed is None:
        raise InputError(f"seed: expected a number from 0 to 2^31, got {query['seed']!r:.60}")
    return seed
