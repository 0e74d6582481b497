"""Static pages, served beside the WebSocket on the same port: read once, at fixed paths, and nothing else."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import PurePath
from typing import Final, TypeAlias

from msgspec import Struct

from .http import Request, require_method, respond

__all__ = ["Page", "Pages", "demo_pages", "page_answer"]

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",  # the WebSocket's ws: and wss: of this host, too (CSP 3, §6.7.2.8)
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    # No script can turn a text into elements, whatever the page's own code does with it. The one policy that may be is that
    # of notify.js, which knows the address of the service worker and no other.
    "require-trusted-types-for 'script'",
    "trusted-types notify-worker",
)

_HEADERS: Final = (
    ("Content-Security-Policy", "; ".join(_POLICY)),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)


class Page(Struct, frozen=True):
    """A file as it is served: as it is, and compressed, which is a third of it."""

    content_type: str
    body: bytes
    gzipped: bytes


Pages: TypeAlias = Mapping[str, Page]
"""Pages by their paths, such as ``/``."""


def demo_pages() -> Pages:
    """The page of ``trio-chat serve --demo`` with its scripts, among them ``/trio-chat.js``, from the package.

    For `serve_tcp` with `trio_chat.authenticators.demo`: the page says who it is in the query of the WebSocket's address.

    Raises:
        OSError: the package lacks its files.
    """
    folder = files("trio_chat") / "web"
    return {_path(file.name): _page(file.name, file.read_bytes()) for file in folder.iterdir() if file.is_file()}


def page_answer(pages: Pages, request: Request) -> bytes | None:
    """The answer to a plain request for one of `pages`; None if it is for none.

    Raises:
        HttpError: 405.
    """
    page = pages.get(request.path)
    if page is None:
        return None
    require_method(request, "GET", "HEAD")
    zipped = "gzip" in request.tokens("accept-encoding")  # as browsers write it; who weighs encodings gets it as it is
    body = page.gzipped if zipped else page.body
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = [("Content-Type", page.content_type), ("ETag", etag), ("Vary", "Accept-Encoding"), *_HEADERS]
    if zipped:
        headers.append(("Content-Encoding", "gzip"))
    fresh = {etag, "*"} & {tag.removeprefix("W/") for tag in request.tokens("if-none-match")}  # RFC 9110 §13.1.2
    head_only = bool(fresh) or request.method == "HEAD"
    return respond(304 if fresh else 200, headers, body, head_only=head_only, cache="no-cache")


def _path(name: str) -> str:
    return "/" if name == "index.html" else f"/{name}"


def _page(name: str, body: bytes) -> Page:
    return Page(_TYPES[PurePath(name).suffix], body, gzip.compress(body, mtime=0))
