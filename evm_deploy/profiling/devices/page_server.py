"""A web server for one visitor: it serves a page and bundles, and accepts one profile.

The first visitor with the token in the address gets a cookie, which identifies it from then on: it may reload the
page, or close and open it again, which starts the measurement anew. Requests that name another host (DNS rebinding),
come from the page of another site, or are too large, are refused before their body is read.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.payload import BufferedReaderPayload

from evm_deploy.errors import DeviceError, InputError
from evm_deploy.profiling.devices.page_connections import BURST, Connections
from evm_deploy.profiling.devices.page_guard import (
    HEADERS,
    ISOLATING,
    OURS,
    is_own_name,
    is_same_secret,
    make_refusal,
    read_body,
    strip_port,
)
from evm_deploy.profiling.report import LARGEST, ProfileReport

WORD = 2048  # longest progress message of the page, in bytes
TICK = 0.2  # seconds between checks of the timeout
GONE = 1.0  # seconds after which a page that said goodbye is not merely loading again
REMEMBERED = 24 * 3600  # seconds that a browser keeps the cookie, also where it is ended meanwhile
SILENT = logging.Logger("page", logging.CRITICAL + 1)  # strangers may send anything: it is refused, and not reported
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Site:
    """The served files (by path without its first slash: a file, or bytes), and the reader of the posted profile."""

    files: Mapping[str, Path | bytes]
    accept: Callable[[bytes], ProfileReport]  # raises InputError
    lan: bool
    timeout: float  # seconds without a request from the visitor


class PageServer:
    """Serves the page: `async with PageServer(site, say) as server`, then `await server.wait_for_profile()`.

    Raises DeviceError: no port is free.
    """

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        self.token = secrets.token_urlsafe(16)
        self._site, self._say = site, say
        self._cookie: str | None = None  # of the visitor, after its first request
        self._heard = 0.0
        self._left: float | None = None  # when the page was closed, until it is opened again
        self._stage = ""
        app = web.Application(middlewares=[self._guard])
        app.add_routes([web.post("/profile", self._take_profile), web.post("/alive", self._note_progress)])
        app.add_routes([web.post("/failed", self._note_failure), web.post("/closed", self._note_closing)])
        app.add_routes([web.get("/{path:.*}", self._send_file)])
        # The server does not wait for a refused body, and never decompresses one, which could grow without limit.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=SILENT,
            lingering_time=0,
            auto_decompress=False,
            shutdown_timeout=1.0,
            handle_signals=False,
        )

    async def __aenter__(self) -> PageServer:
        loop = asyncio.get_running_loop()
        self._done: asyncio.Future[ProfileReport] = loop.create_future()
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections = Connections(self._runner.server)
        try:
            host = "0.0.0.0" if self._site.lan else "127.0.0.1"
            self._listener = await loop.create_server(self._connections.open, host, 0, backlog=BURST)
        except OSError as error:
            await self._runner.cleanup()
            raise DeviceError(f"the page cannot be served ({error.strerror}).", "close other servers.") from error
        self.port: int = self._listener.sockets[0].getsockname()[1]
        self._heard = loop.time()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._done.cancel()
        self._listener.close()
        await self._runner.cleanup()

    def make_address(self, host: str) -> str:
        """The address of the page, for a browser that reaches this machine as `host`."""
        return f"http://{host}:{self.port}/?token={self.token}"

    async def wait_for_profile(self) -> ProfileReport:
        """Waits for the profile. Raises DeviceError: the page stopped, or was silent for the site's timeout."""
        clock = asyncio.get_running_loop().time
        while not self._done.done():
            await asyncio.wait([self._done], timeout=TICK)
            self._connections.close_idle()
            if self._left is not None and clock() - self._left > GONE:
                self._left = None
                self._stage = "the page was closed: open it again in the same browser, or end this with Ctrl-C"
                self._say(self._stage)
            if clock() - self._heard > self._site.timeout and not self._done.done():
                what = "the page has stopped sending" if self._cookie else "nobody has opened the page"
                fix = "keep the page in the foreground until it is done, or raise --timeout."
                raise DeviceError(f"{what} (for {self._site.timeout:g} s).", fix)
        return self._done.result()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        with self._connections.use(request.protocol):
            try:
                response = await self._check(request, handler)
            except web.HTTPException as error:
                response = make_refusal(error.status, error.reason)
            if not response.prepared:
                response.headers.update(HEADERS | (ISOLATING if strip_port(request.host) in OURS else {}))
                await response.prepare(request)
                await response.write_eof()  # here, because the connection is in use until all is sent
        return response

    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_own_name(request.host, self._site.lan):
            return make_refusal(403, "this server has a different name")
        if request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}":
            return make_refusal(403, "the request comes from the page of another site")
        if request.method == "GET" and request.path == "/" and "token" in request.query:
            return self._admit(request)
        if not self._is_known(request):
            return make_refusal(403, "open the address that evm-deploy printed")
        self._heard, self._left = asyncio.get_running_loop().time(), None
        return await handler(request)

    def _admit(self, request: web.Request) -> web.StreamResponse:
        """Accepts the token, once."""
        response = web.Response(status=303, headers={"Location": "/"})
        if self._is_known(request):
            return response
        if not is_same_secret(request.query["token"], self.token):
            return make_refusal(403, "this is not the token that evm-deploy printed")
        if self._cookie is not None:
            return make_refusal(403, "another browser has opened this address: start evm-deploy profile again")
        self._cookie, self._heard = secrets.token_urlsafe(32), asyncio.get_running_loop().time()
        response.set_cookie(self._cookie_name, self._cookie, max_age=REMEMBERED, httponly=True, samesite="Lax")
        self._say(f"a browser opened the page: {request.headers.get('User-Agent', 'unknown')[:120]}")
        return response

    @property
    def _cookie_name(self) -> str:
        return f"evm-deploy-{self.port}"  # cookies belong to a host, not to a port

    def _is_known(self, request: web.Request) -> bool:
        return self._cookie is not None and is_same_secret(request.cookies.get(self._cookie_name, ""), self._cookie)

    async def _send_file(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"] or "index.html"
        file = self._site.files.get(path)
        if file is None:
            return make_refusal(404, "there is no such file")
        kind = TYPES.get(Path(path).suffix, "application/octet-stream")
        if isinstance(file, bytes):
            return web.Response(body=file, content_type=kind)
        try:
            return web.Response(body=BufferedReaderPayload(file.open("rb"), disposition="inline"), content_type=kind)
        except OSError:  # it was there when the server was started
            return make_refusal(404, "there is no such file any more")

    async def _take_profile(self, request: web.Request) -> web.StreamResponse:
        text = await read_body(request, LARGEST)
        try:  # reading a large text takes a while, and the timeout continues
            report = await asyncio.to_thread(self._site.accept, text)
        except InputError as error:
            return make_refusal(400, error.cause)
        response = web.json_response({"accepted": True}, headers=HEADERS)
        await response.prepare(request)
        await response.write_eof()  # so that the page gets its answer before the server ends
        self._end(report)
        return response

    async def _note_progress(self, request: web.Request) -> web.StreamResponse:
        stage = (await read_body(request, WORD)).decode("utf-8", "replace")
        if stage != self._stage:
            self._stage = stage
            self._say(stage)
        return web.Response(status=204)

    async def _note_failure(self, request: web.Request) -> web.StreamResponse:
        cause = (await read_body(request, WORD)).decode("utf-8", "replace")
        self._end(DeviceError(f"the page stopped: {cause[:300]}.", "reload it, or try another browser."))
        return web.Response(status=204)

    async def _note_closing(self, request: web.Request) -> web.StreamResponse:
        self._left = asyncio.get_running_loop().time()
        return web.Response(status=204)

    def _end(self, outcome: ProfileReport | DeviceError) -> None:
        if self._done.done():
            return
        if isinstance(outcome, DeviceError):
            self._done.set_exception(outcome)
        else:
            self._done.set_result(outcome)
