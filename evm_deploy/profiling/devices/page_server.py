"""A web server for one visitor: it hands out a page and bundles, and takes one profile.

Whoever has the token of the address comes in, once, and is known by a cookie from then on. Requests that name another
host (a rebound domain), come from another site's page, or are larger than they have reason to be, are refused before
their body is read.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from evm_deploy.errors import DeviceError, InputError
from evm_deploy.profiling.devices.page_guard import HEADERS, ISOLATING, OURS, body, name_of, own_name, refusal, same
from evm_deploy.profiling.report import LARGEST, ProfileReport

WORD = 2048  # bytes of what the page says of its progress
TICK = 0.2  # seconds between looks at the clock
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
    """What is served: path without its first slash: file, or bytes; and what is done with a posted profile."""

    files: Mapping[str, Path | bytes]
    accept: Callable[[bytes], ProfileReport]  # raises InputError
    lan: bool
    timeout: float  # seconds without a request of the visitor


class PageServer:
    """Serves until a profile has come: `async with PageServer(site, say) as server`, then `await server.profile()`.

    Raises DeviceError: no port is free.
    """

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        self.token = secrets.token_urlsafe(16)
        self._site, self._say = site, say
        self._cookie: str | None = None  # of the visitor, once there is one
        self._heard = 0.0
        self._stage = ""
        app = web.Application(middlewares=[self._guarded])
        app.add_routes([web.post("/profile", self._profile), web.post("/alive", self._alive)])
        app.add_routes([web.post("/failed", self._failed), web.get("/{path:.*}", self._file)])
        # A body that was refused is not waited for, and none is unpacked: it could grow without a bound.
        self._runner = web.AppRunner(
            app, access_log=None, lingering_time=0, auto_decompress=False, shutdown_timeout=1.0, handle_signals=False
        )

    async def __aenter__(self) -> PageServer:
        self._done: asyncio.Future[ProfileReport] = asyncio.get_running_loop().create_future()
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "0.0.0.0" if self._site.lan else "127.0.0.1", 0).start()
        except OSError as error:
            await self._runner.cleanup()
            raise DeviceError(f"the page cannot be served ({error.strerror}).", "close other servers.") from error
        self.port: int = self._runner.addresses[0][1]
        self._heard = asyncio.get_running_loop().time()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._done.cancel()
        await self._runner.cleanup()

    def address(self, host: str) -> str:
        """What to open, by the name that a browser knows this machine by."""
        return f"http://{host}:{self.port}/?token={self.token}"

    async def profile(self) -> ProfileReport:
        """Waits for it. Raises DeviceError: the page stopped, or nobody was heard for the site's timeout."""
        clock = asyncio.get_running_loop().time
        while not self._done.done():
            await asyncio.wait([self._done], timeout=TICK)
            if clock() - self._heard > self._site.timeout and not self._done.done():
                what = "the page has fallen silent" if self._cookie else "nobody has opened the page"
                fix = "keep the page in the foreground until it says that it is done, or raise --timeout."
                raise DeviceError(f"{what} (for {self._site.timeout:g} s).", fix)
        return self._done.result()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await self._checked(request, handler)
        except web.HTTPException as error:
            response = refusal(error.status, error.reason)
        if not response.prepared:
            response.headers.update(HEADERS | (ISOLATING if name_of(request.host) in OURS else {}))
        return response

    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not own_name(request.host, self._site.lan):
            return refusal(403, "this server has another name")
        if request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}":
            return refusal(403, "the request comes from another site's page")
        if request.method == "GET" and request.path == "/" and "token" in request.query:
            return self._admitted(request)
        if not self._known(request):
            return refusal(403, "open the address that evm-deploy printed")
        self._heard = asyncio.get_running_loop().time()
        return await handler(request)

    def _admitted(self, request: web.Request) -> web.StreamResponse:
        """Takes the token, once."""
        response = web.Response(status=303, headers={"Location": "/"})
        if self._known(request):
            return response
        if not same(request.query["token"], self.token):
            return refusal(403, "this is not the token that evm-deploy printed")
        if self._cookie is not None:
            return refusal(403, "another browser has opened this address: start evm-deploy profile again")
        self._cookie, self._heard = secrets.token_urlsafe(32), asyncio.get_running_loop().time()
        response.set_cookie(self._cookie_name, self._cookie, httponly=True, samesite="Lax")
        self._say(f"a browser opened the page: {request.headers.get('User-Agent', 'of no name')[:120]}")
        return response

    @property
    def _cookie_name(self) -> str:
        return f"evm-deploy-{self.port}"  # cookies know hosts, not ports

    def _known(self, request: web.Request) -> bool:
        return self._cookie is not None and same(request.cookies.get(self._cookie_name, ""), self._cookie)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"] or "index.html"
        file = self._site.files.get(path)
        if file is None:
            return refusal(404, "there is no such file")
        kind = TYPES.get(Path(path).suffix, "application/octet-stream")
        if isinstance(file, bytes):
            return web.Response(body=file, content_type=kind)
        return web.FileResponse(file, headers={"Content-Type": kind})

    async def _profile(self, request: web.Request) -> web.StreamResponse:
        text = await body(request, LARGEST)
        try:  # large texts take a while to read, and the clock goes on
            report = await asyncio.to_thread(self._site.accept, text)
        except InputError as error:
            return refusal(400, error.cause)
        response = web.json_response({"accepted": True}, headers=HEADERS)
        await response.prepare(request)
        await response.write_eof()  # the page has its answer before the server ends
        self._end(report)
        return response

    async def _alive(self, request: web.Request) -> web.StreamResponse:
        stage = (await body(request, WORD)).decode("utf-8", "replace")
        if stage != self._stage:
            self._stage = stage
            self._say(stage)
        return web.Response(status=204)

    async def _failed(self, request: web.Request) -> web.StreamResponse:
        cause = (await body(request, WORD)).decode("utf-8", "replace")
        self._end(DeviceError(f"the page stopped: {cause[:300]}.", "reload it, or try another browser."))
        return web.Response(status=204)

    def _end(self, outcome: ProfileReport | DeviceError) -> None:
        if self._done.done():
            return
        if isinstance(outcome, DeviceError):
            self._done.set_exception(outcome)
        else:
            self._done.set_result(outcome)
