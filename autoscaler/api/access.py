"""Who may read the controller's pages, and who may pause: tokens, and the names that the pages are asked by.

One object decides for every page. What a request presents is taken from it in one place (`_presented`), so that another
way to present a token can join there. Not for what the pages show, and not for connections (`listener`).
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoscaler.common.errors import ConfigError, LeadtimeError
from autoscaler.common.secret_files import read_secret

ANY_HOST = "*"


@dataclass(frozen=True, slots=True)
class Readers:
    """Who may read. Without `token_file` everybody who reaches the pages."""

    token_file: Path | None = None
    """With the token that reads everything."""
    namespace_token_files: Mapping[str, Path] = field(default_factory=dict)
    """Namespace -> file with the token that reads the plan of that namespace, and nothing else."""
    metrics_open: bool = False
    """/metrics needs no token."""
    hosts: tuple[str, ...] = ()
    """Names by which the pages may be asked, besides addresses and localhost; ANY_HOST = all."""


class AccessRefused(LeadtimeError):
    """A request that is not answered: the HTTP status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Access:
    """Decides by the request's headers. Token files are read again when they change."""

    def __init__(self, change_token_file: Path | None = None, readers: Readers | None = None) -> None:
        self._readers = readers or Readers()
        self._change = None if change_token_file is None else _TokenFile(change_token_file)
        self._read = None if self._readers.token_file is None else _TokenFile(self._readers.token_file)
        self._of_namespaces = {one: _TokenFile(file) for one, file in self._readers.namespace_token_files.items()}
        self._hosts = frozenset(name.lower().rstrip(".") for name in self._readers.hosts)
        self._signs = secrets.token_bytes(32)
        """Key of the signs that a signed-in browser shows instead of a token; another one after a restart."""

    @property
    def metrics_open(self) -> bool:
        return self._read is None or self._readers.metrics_open

    def check_host(self, given: Sequence[str]) -> None:
        """Refuse a request that was sent to another name: a web page may have made its name lead here (DNS
        rebinding), and would read the answer. Addresses cannot be made to lead elsewhere. Errors: AccessRefused."""
        if ANY_HOST in self._hosts:
            return
        name = _host_name(given[0]) if len(given) == 1 else None
        if name is None or not (name in self._hosts or _leads_nowhere_else(name)):
            raise AccessRefused(421, "not the name of this controller's pages: server.hosts in the settings lists them")

    def check_change(self, authorization: str) -> None:
        """Errors: AccessRefused unless the token of pause and resume was presented."""
        if self._change is None:
            raise AccessRefused(403, "switched off: no server.token_file is configured")
        try:
            good = _same(_presented(authorization), self._change.value())
        except ConfigError as error:
            raise AccessRefused(403, f"server.{error}") from None
        if not good:
            raise AccessRefused(401, "wrong or missing token: send 'Authorization: Bearer TOKEN'")

    def sign_for(self, token: str) -> str:
        """What a browser is to show from now on, for a token that reads every page. Errors: AccessRefused.

        It holds for as long as the token and this process do, and tells nothing of the token.
        """
        presented = token.encode("utf-8", "surrogateescape").strip()
        own = self.namespaces(f"Bearer {presented.decode('utf-8', 'surrogateescape')}")
        if own is not None:
            raise AccessRefused(403, "this token reads /api/v1/plan of its namespace, and nothing else")
        return self._sign(presented)

    def signed_in(self, sign: str) -> bool:
        """Whether a browser shows the sign of a token that reads every page now."""
        shown = sign.encode("utf-8", "surrogateescape")
        tokens = [value for one in (self._read, self._change) if one is not None and (value := _value(one))]
        same = [_same(shown, self._sign(token).encode()) for token in tokens]
        return any(same)

    def _sign(self, token: bytes) -> str:
        return hmac.new(self._signs, token, "sha256").hexdigest()

    def namespaces(self, authorization: str, sign: str = "") -> frozenset[str] | None:
        """The namespaces whose plan may be read; None: every page. Errors: AccessRefused.

        Who may pause may read. All tokens are compared, so that the time taken tells nothing. `sign`: what a browser
        shows that signed in (`sign_for`); it reads, and changes nothing.
        """
        if self._read is None or (sign and self.signed_in(sign)):
            return None
        presented = _presented(authorization)
        everything = [_holds(one, presented) for one in (self._read, self._change) if one is not None]
        own = [name for name, file in self._of_namespaces.items() if _holds(file, presented)]
        if any(everything):
            return None
        if not own:
            raise AccessRefused(401, "wrong or missing read token: send 'Authorization: Bearer TOKEN'")
        return frozenset(own)


class _TokenFile:
    """A token that is read again when its file changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._value = b""

    def value(self) -> bytes:
        """Errors: ConfigError."""
        try:
            stat = self._path.stat()
        except OSError:
            return read_secret(self._path).encode()  # raises with the reason
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self._stamp:
            self._value, self._stamp = read_secret(self._path).encode(), stamp
        return self._value


def _presented(authorization: str) -> bytes:
    """The token that a request presents; b"" for none. Any bytes may stand in a header."""
    scheme, _, token = authorization.encode("utf-8", "surrogateescape").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _same(presented: bytes, token: bytes) -> bool:
    return hmac.compare_digest(presented, token)


def _holds(file: _TokenFile, presented: bytes) -> bool:
    try:
        return _same(presented, file.value())
    except ConfigError:
        return False  # nobody has a token that is not there


def _value(file: _TokenFile) -> bytes:
    try:
        return file.value()
    except ConfigError:
        return b""


def _host_name(header: str) -> str | None:
    """`HOST[:PORT]` or `[ADDRESS][:PORT]` without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower() or None
    return header.partition(":")[0].lower().rstrip(".") or None


def _leads_nowhere_else(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
