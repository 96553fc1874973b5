"""Asks a running controller over its HTTP pages. A few lines over the standard library, so that asking is quick.

Not for Ray's dashboard. Redirects and proxies are not followed: a token must not travel on.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from autoscaler.common.errors import InputError, LeadtimeError
from autoscaler.common.redaction import remember

DEFAULT_URL = "http://127.0.0.1:8080"
URL_VARIABLE = "LEADTIME_URL"
TOKEN_VARIABLE = "LEADTIME_TOKEN_FILE"
_TIMEOUT_S = 5.0
_MAX_BYTES = 64 * 1024 * 1024


def add_url_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        default=os.environ.get(URL_VARIABLE) or DEFAULT_URL,
        help=f"where the controller's pages are (default: ${URL_VARIABLE}, else {DEFAULT_URL})",
    )
    parser.add_argument(
        "--ca-file", metavar="F", type=Path, help="certificates (PEM) to trust for https instead of the system's"
    )


def add_read_token_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--token-file",
        metavar="F",
        type=Path,
        default=os.environ.get(TOKEN_VARIABLE) or None,
        help="file with the token to read the pages (server.read_token_file of the controller's settings; default: "
        f"${TOKEN_VARIABLE})",
    )


def ask(
    url: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    token_file: Path | str | None = None,
    ca_file: Path | None = None,
) -> Any:
    """GET a page, or POST `body` to it; the JSON of the answer.

    Errors: InputError for a bad URL or token file; LeadtimeError, one line, when there is no good answer.
    """
    base = _base(url)
    headers = {"Accept": "application/json"}
    if token_file is not None:
        headers["Authorization"] = f"Bearer {_token(Path(token_file))}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, headers, method="GET" if data is None else "POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect(), *_trusting(ca_file))
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            raw = answer.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        raise _refused(base, error) from None
    except (OSError, http.client.HTTPException) as error:
        raise LeadtimeError(
            f"{base}: no controller answers there ({_why(error)}); --url, or ${URL_VARIABLE}, says where it is"
        ) from None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise LeadtimeError(f"{base}{path}: the answer is not JSON; is that a leadtime controller?") from None


def _base(url: str) -> str:
    allowed = "http://HOST:PORT or https://HOST:PORT, without user and password"
    shown = url.rpartition("@")[2]
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        parts.port  # noqa: B018 (raises for a bad port)
    except ValueError:
        good = False
    if not good or any(c.isspace() or not c.isprintable() for c in url):
        raise InputError(f"--url: {shown!r}; allowed: {allowed}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _token(file: Path) -> str:
    try:
        words = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "cannot be read").lower() if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"--token-file: {file}: {why}; allowed: a file that holds just the token") from None
    if len(words) != 1 or not words[0].isascii():
        raise InputError(f"--token-file: {file}: no single word in it; allowed: a file that holds just the token")
    remember(words[0])
    return words[0]


def _trusting(ca_file: Path | None) -> list[urllib.request.HTTPSHandler]:
    if ca_file is None:
        return []
    try:
        return [urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(ca_file)))]
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"--ca-file: {ca_file}: {_why(error)}; allowed: a file with certificates (PEM)") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _refused(base: str, error: urllib.error.HTTPError) -> LeadtimeError:
    try:
        said = str(json.loads(error.read(_MAX_BYTES))["error"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        said = error.reason or "no reason given"
    hint = "; --token-file names the file with it" if error.code == 401 else ""
    kind = InputError if error.code in (400, 404) else LeadtimeError
    return kind(f"{base}: answered {error.code}: {' '.join(said.split())}{hint}")


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"no answer within {_TIMEOUT_S:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return " ".join(str(reason).split()) or type(reason).__name__
