"""Names to addresses for HTTP clients, each address checked before a connection to it is made.

The check is on the very address that is connected to, so a name that changes its mind between check and use gains
nothing. Addresses written out are never asked for here: whoever builds a URL of one checks it first.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from aiohttp.abc import AbstractResolver, ResolveResult

from autoscaler.clients.addresses import Address, as_address
from autoscaler.common.errors import LeadtimeError

Resolve = Callable[[str, int], Awaitable[tuple[str, list[str]]]]
"""(host, port) -> the host's real name, after all aliases, and its addresses. Errors: OSError."""
Refusal = Callable[[str, str, Address], str | None]
"""(host, its real name, one of its addresses) -> why no connection goes there; None: it may."""


class NoAnswer(LeadtimeError):
    """The other side gave no answer at all: refused, timed out, cut off. The message is one line without secrets."""


class AddressRefused(NoAnswer):
    """Nothing was sent: the address is not among those that may be connected to."""


async def system_resolve(host: str, port: int) -> tuple[str, list[str]]:
    """As the machine's resolver has it."""
    flags = socket.AI_ADDRCONFIG | socket.AI_CANONNAME
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    canonical = next((name for _, _, _, name, _ in found if name), "")
    return canonical, [str(address[0]) for *_, address in found]


class CheckedResolver(AbstractResolver):
    """A resolver for aiohttp that raises AddressRefused unless every address of a name may be connected to."""

    def __init__(self, refusal: Refusal, resolve: Resolve = system_resolve) -> None:
        self._refusal, self._resolve = refusal, resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        canonical, addresses = await self._resolve(host, port)
        for text in addresses:
            address = as_address(text)
            why = "has no IP address" if address is None else self._refusal(host, canonical, address)
            if why is not None:
                raise AddressRefused(f"{host}: not connected to, {why}")
        return [
            ResolveResult(
                hostname=host,
                host=text,
                port=port,
                family=socket.AF_INET6 if ":" in text else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for text in addresses
        ]

    async def close(self) -> None:
        """Nothing is kept open."""
