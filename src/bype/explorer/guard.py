"""What is refused before a request is answered: foreign hosts and pages, and bodies that are too large."""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Bytes of a request, at most: two images and the form around them.
MAX_BODY = 20 * 2**20
#: Bytes that are read and dropped so that a browser gets to the answer; a longer request is cut off.
MAX_DROPPED = 50 * MAX_BODY
#: The page loads its own script and nothing else, and no other page may show it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_own_host(header: str, names: Sequence[str]) -> bool:
    """Whether a Host header names this server: by an address, as localhost, or by one of `names`.

    A page elsewhere whose name is made to resolve to this machine (DNS rebinding) sends that name.

    >>> is_own_host("127.0.0.1:80", []), is_own_host("[::1]:80", []), is_own_host("evil.example", ["box"])
    (True, True, False)
    """
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if host in ("localhost", *(name.lower() for name in names)):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """Refuses requests of other pages and hosts, limits bodies, and adds the headers of every answer.

    Args:
        app: The application behind it.
        names: Names of this server besides its addresses and localhost.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str] = ()) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope["method"], headers)
        answer = PlainTextResponse(f"{refusal}\n", 403) if refusal else self.app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not is_own_host(host, self.names):
            return f"Host: expected an address or localhost, got {host!r:.80}"
        origin = headers.get("origin")
        if method not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc != host:
            return f"Origin: expected this page, got {origin!r:.80}"
        return None


async def limited_body(headers: Headers, receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        HTTPException: 413, if it is larger than 20 MiB.
    """
    parts: list[bytes] = []
    size, announced = 0, headers.get("content-length", "")
    too_large = announced.isdecimal() and int(announced) > MAX_BODY
    more = True
    while more and size < MAX_DROPPED:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "The request ended early.")
        part = message.get("body", b"")
        size += len(part)
        too_large = too_large or size > MAX_BODY
        if too_large:
            parts.clear()
        else:
            parts.append(part)
        more = message.get("more_body", False)
    if too_large:
        raise HTTPException(413, f"The file is too large: expected at most {MAX_BODY // 2**20} MiB.")
    return b"".join(parts)
