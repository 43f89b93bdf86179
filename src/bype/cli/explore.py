"""`explore`."""

from typing import Annotated

import typer

from bype.cli.options import DataPath, Device, Json, RunPath, print_json
from bype.core import console
from bype.core.errors import InputError
from bype.core.numbers import MAX_INT
from bype.explorer.server import bound_socket, own_names, serve, url_of


def explore(
    run: RunPath,
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Address to listen on; others can then reach the page.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: a free one.")] = 8765,
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=MAX_INT, help="Importance samples S per scored image.")
    ] = 100,
    items: Annotated[
        int, typer.Option("--items", min=1, max=1000, help="Test images that an own image is ranked among.")
    ] = 200,
    with_: Annotated[
        str | None, typer.Option("--with", metavar="NAME", help="Explore this refit of the prior.")
    ] = None,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Open a page on this machine that draws from a run's model, slides between images and looks at your own."""
    try:
        from bype.explorer.app import make_app
    except ModuleNotFoundError as e:
        raise InputError(
            f"explore: expected the extra app, got no {e.name}; install it: pip install 'bype[app]'"
        ) from None
    from bype.explorer.session import Session
    from bype.runs.run import Run

    opened = Run.open(run)
    with bound_socket(host, port) as listening, console.items(str(run), "test images") as progress:
        session = Session(
            opened.load(device, with_, data=moved), samples=samples, items=items, name=with_, tell=console.report,
            progress=progress,
        )  # fmt: skip
        url = url_of(listening)
        if as_json:
            print_json({"run": str(run), "url": url})
        else:
            print(f"{run}: open {url} in a browser; Ctrl-C ends it", flush=True)
        serve(make_app(session, own_names(host)), listening)
