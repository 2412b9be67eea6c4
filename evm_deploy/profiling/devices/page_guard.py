"""Checks of requests to the page's server, and the headers of its answers."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress

from aiohttp import web

SLOWEST = 120.0  # most seconds for the body of a request
OURS = ("localhost", "127.0.0.1")  # names of this machine, on this machine
ISOLATING = {  # they let the page start threads; over plain http, browsers honour them only on this machine
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the rest of the policy is in the page
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_refusal(status: int, reason: str) -> web.Response:
    """Makes an answer that refuses a request and closes the connection, even if more data is on its way."""
    response = web.Response(status=status, text=reason + "\n")
    response.force_close()
    return response


async def read_body(request: web.Request, limit: int) -> bytes:
    """Reads the body of a request, at most `limit` bytes.

    Raises HTTPRequestEntityTooLarge (before reading, if the request states its size); HTTPRequestTimeout;
    HTTPUnsupportedMediaType: it is compressed, and could grow without limit.
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


def is_own_name(host: str, lan: bool) -> bool:
    """Whether `host` cannot come from a stranger's DNS: a name of this machine or, on a LAN, any IP address."""
    if strip_port(host) in OURS:
        return True
    try:
        return lan and bool(ipaddress.ip_address(strip_port(host)))
    except ValueError:
        return False


def strip_port(host: str) -> str:
    """Removes the port from a Host header."""
    return host.rpartition(":")[0] if ":" in host else host


def is_same_secret(found: str, expected: str) -> bool:
    """Compares secrets in constant time."""
    return hmac.compare_digest(found.encode("utf-8", "replace"), expected.encode())
