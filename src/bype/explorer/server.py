"""The socket and the server of the explorer."""

import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bype.core.errors import InputError

if TYPE_CHECKING:  # the extra may be missing
    from starlette.types import ASGIApp

#: Requests that wait to be accepted.
BACKLOG = 1024


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens, opened before the model is loaded so that a used port is reported at once.

    Args:
        host: An address or a name of this machine.
        port: The port; 0 lets the system choose one.

    Raises:
        InputError: If the host is none of this machine, or the port is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise InputError(f"--host: expected an address or a name of this machine, got {host!r:.80}") from None
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port of a server that just ended
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as e:
        opened.close()
        raise InputError(
            f"--host {host} --port {port}: {e.strerror}; give another --port, or 0 for a free one"
        ) from None
    return opened


def url_of(opened: socket.socket) -> str:
    """The address of the server for a browser on this machine."""
    host, port = opened.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1" if opened.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def own_names(host: str) -> Sequence[str]:
    """The names by which a server on `host` may be called: the given one, and this machine's if others reach it."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return ()
    return (host, socket.gethostname(), socket.getfqdn()) if host != "localhost" else ()


def serve(app: "ASGIApp", opened: socket.socket) -> None:
    """Serves an ASGI application until SIGINT or SIGTERM, whose handlers are called afterwards."""
    import uvicorn

    config = uvicorn.Config(
        app, log_config=None, log_level="critical", access_log=False, lifespan="off", server_header=False,
        timeout_graceful_shutdown=2, timeout_keep_alive=5,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[opened])
