"""What the page's server refuses, and the headers of what it answers."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress

from aiohttp import web

SLOWEST = 120.0  # seconds for the body of a request
OURS = ("localhost", "127.0.0.1")  # names of this machine, to itself
ISOLATING = {  # they let the page start threads, and over plain http browsers heed them from this machine alone
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the rest of it is in the page
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def refusal(status: int, reason: str) -> web.Response:
    """An answer after which the connection is closed, whatever else was on its way."""
    response = web.Response(status=status, text=reason + "\n")
    response.force_close()
    return response


async def body(request: web.Request, limit: int) -> bytes:
    """The bytes of a request, `limit` at most.

    Raises HTTPRequestEntityTooLarge, before anything is read where the request says its size; HTTPRequestTimeout;
    HTTPUnsupportedMediaType: compressed, which could grow without a bound.
    """
    too_large = web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
    if (request.content_length or 0) > limit:
        raise too_large
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise web.HTTPUnsupportedMediaType
    parts, size = [], 0

    async def read() -> None:
        nonlocal size
        async for part in request.content.iter_chunked(1 << 16):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise too_large

    try:
        await asyncio.wait_for(read(), SLOWEST)
    except asyncio.TimeoutError:
        raise web.HTTPRequestTimeout from None
    return b"".join(parts)


def own_name(host: str, lan: bool) -> bool:
    """Names that no stranger's DNS can have given: this machine's, and on a LAN any plain address."""
    if name_of(host) in OURS:
        return True
    try:
        return lan and bool(ipaddress.ip_address(name_of(host)))
    except ValueError:
        return False


def name_of(host: str) -> str:
    """A Host header without its port."""
    return host.rpartition(":")[0] if ":" in host else host


def same(found: str, expected: str) -> bool:
    """Compares secrets, in a time that tells nothing of them."""
    return hmac.compare_digest(found.encode("utf-8", "replace"), expected.encode())
