"""The open connections of the page's server: a limited number, and none that stays idle for long.

So no visitor, with or without the token, keeps the server from answering the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from aiohttp import web

MOST = 64  # open connections; a browser has six, and the limit of the system is often 1024
BURST = 32  # that are accepted at once, before the limit can be kept
LONGEST_IDLE = 15.0  # seconds without a complete request


class Connections:
    """Makes the connections of `server`, and closes those that have been idle for the longest time."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._idle: dict[web.RequestHandler, float] = {}  # since when; the longest first

    def open(self) -> web.RequestHandler:
        """Makes a connection, for `loop.create_server`. Where there are too many, one that is idle is closed."""
        if len(self._idle) >= MOST:
            self._close(next(iter(self._idle)))
        made = self._server()
        self._idle[made] = asyncio.get_running_loop().time()
        return made

    @contextlib.contextmanager
    def use(self, connection: web.RequestHandler) -> Iterator[None]:
        """Keeps the connection open while a request on it is answered."""
        self._idle.pop(connection, None)
        try:
            yield
        finally:
            self._idle[connection] = asyncio.get_running_loop().time()

    def close_idle(self) -> None:
        """Closes the connections that have been idle for too long; forgets those that their visitors closed."""
        now = asyncio.get_running_loop().time()
        for connection, since in list(self._idle.items()):
            if now - since > LONGEST_IDLE:
                self._close(connection)
            elif not connection.connected and now - since > 1:
                del self._idle[connection]

    def _close(self, connection: web.RequestHandler) -> None:
        del self._idle[connection]
        connection.force_close()
