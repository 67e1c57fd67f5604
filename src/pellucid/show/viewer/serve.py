"""Serve one study to the browser of this machine."""

import secrets
import socket
from collections.abc import Callable
from importlib import import_module
from typing import Any

from pellucid.errors import BadStudy
from pellucid.show.viewer.app import make_app
from pellucid.study import Study

__all__ = ["serve"]


def serve(study: Study, *, port: int = 0, told: Callable[[str], Any] = print) -> None:
    """Serve a study on the loopback address until it is interrupted.

    Parameters
    ----------
    study
        A study with a report.
    port
        Its port; 0 takes a free one.
    told
        Is given the address, token included.

    Raises
    ------
    BadStudy
        When the viewer is not installed, the port is taken, or the study has no report.
    """
    try:
        uvicorn: Any = import_module("uvicorn")
    except ImportError:
        raise BadStudy("pellucid view needs uvicorn: pip install 'pellucid[viewer]'") from None
    token = secrets.token_urlsafe(24)
    app = make_app(study, token)
    with socket.socket() as listening:
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadStudy(f"port {port} cannot be used: {error.strerror}; give another --port") from None
        told(f"http://127.0.0.1:{listening.getsockname()[1]}/?token={token}")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
        server.run(sockets=[listening])
