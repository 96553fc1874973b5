"""Which names and addresses leadtime connects to on the word of others: an object in the cluster, or a Ray head.

Pure. Names are Kubernetes' own (RFC 1123). What the settings file itself names as a dashboard is the admin's and not
asked about here. Not for connecting: clients/ray_dashboard.py and sources/node_metrics.py do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from autoscaler.common.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_METADATA_NAMES = ("metadata", "instance-data", "metadata.goog")
_METADATA_SUFFIXES = (".metadata.google.internal", ".metadata.goog", ".instance-data.ec2.internal")
_NEVER = tuple(
    ip_network(one)
    for one in (
        "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "100.100.100.200/32", "168.63.129.16/32",
        "192.0.0.192/32", "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::/32",
    )
)  # fmt: skip
"""Link-local, multicast and unspecified addresses, and where clouds answer about the machine itself."""
_NAT64 = ip_network("64:ff9b::/96")


def is_label(text: str) -> bool:
    """A DNS label as Kubernetes has it (RFC 1123), as of a namespace or a Service."""
    return _LABEL.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    """A DNS subdomain as Kubernetes has it (RFC 1123), as of a Secret or a RayCluster."""
    return len(text) <= 253 and all(is_label(part) for part in text.split("."))


def as_address(host: str) -> Address | None:
    """The IP address that `host` is; None for a name. One that is wrapped in IPv6 is unwrapped."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return found.ipv4_mapped
        if found in _NAT64:
            return IPv4Address(found.packed[-4:])
    return found


def is_loopback(host: str) -> bool:
    """This machine itself."""
    address = as_address(host)
    return host in ("localhost", "localhost.localdomain") if address is None else address.is_loopback


def forbidden(host: str, address: Address) -> str | None:
    """Why no connection goes there whatever the settings say; None: it may be allowed."""
    name = "." + host.lower().rstrip(".")
    if name[1:] in _METADATA_NAMES or name.endswith(_METADATA_SUFFIXES):
        return "is where a cloud answers about the machine itself"
    if any(address in network for network in _NEVER):
        return f"{'is' if as_address(host) else 'has'} a link-local or another address that no Ray node has"
    return None


@dataclass(frozen=True, slots=True)
class AllowList:
    """Networks and hosts of the settings that may be connected to besides those of the rule at hand."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    """Each begins with a dot."""

    @classmethod
    def of(cls, entries: Iterable[str]) -> AllowList:
        """From networks (10.0.0.0/8), hosts and suffixes of hosts (.ray.example.com). Errors: ConfigError."""
        networks: list[Network] = []
        names: list[str] = []
        for entry in entries:
            try:
                networks.append(ip_network(entry))
                continue
            except ValueError:
                pass
            if not is_subdomain(entry.removeprefix(".")) or entry.replace(".", "").isdigit():
                raise ConfigError(f"{entry!r}; allowed: a network (10.0.0.0/8), a host, or a suffix (.example.com)")
            names.append(entry)
        suffixes = tuple(name for name in names if name.startswith("."))
        return cls(tuple(networks), frozenset(names) - frozenset(suffixes), suffixes)

    def has(self, host: str, address: Address | None) -> bool:
        if address is not None and any(address in network for network in self.networks):
            return True
        return host in self.hosts or host.endswith(self.suffixes)


@dataclass(frozen=True, slots=True)
class ServiceHost:
    """The head Service of a Ray cluster: that name, as the cluster's DNS has it, and nothing that it points on to."""

    name: str
    namespace: str
    allow: AllowList = AllowList()

    @property
    def host(self) -> str:
        return f"{self.name}.{self.namespace}.svc"

    def refusal(self, canonical: str, address: Address) -> str | None:
        """Why not to connect to `address`, which the name `host` stands for, `canonical` being its real name."""
        if (why := forbidden(canonical, address)) is not None:
            return f"{canonical} {why}"
        real = canonical.lower().rstrip(".")
        if self.allow.has(real, address):
            return None
        if real.startswith(self.host + ".svc.") or (real != self.host and not real.startswith(self.host + ".")):
            return f"it points on to {real[:100]}, which is no Service of the namespace (reading.allow in the settings)"
        return "it points to this machine itself" if address.is_loopback else None


@dataclass(frozen=True, slots=True)
class TargetRules:
    """Where the metric pages that a Ray head lists may be."""

    allow: AllowList = AllowList()
    loopback: bool = False
    """The dashboard itself is on this machine, so its nodes may be."""
    pods: Callable[[], frozenset[str] | None] | None = None
    """Addresses of the pods of the Ray cluster, None while they are not known. No such function: the cluster is not in
    Kubernetes, and its nodes may be anywhere in the network."""

    def refusal(self, host: str, address: Address | None) -> str | None:
        """Why not to connect to `host`; `address` is its own, or one that the name stands for; None: not known."""
        if address is not None and (why := forbidden(host, address)) is not None:
            return why
        if self.allow.has(host, address):
            return None
        if is_loopback(host) or (address is not None and address.is_loopback):
            return None if self.loopback else "is leadtime's own machine"
        if self.pods is None:
            return None
        if as_address(host) is None:
            return "is no address of a pod of the Ray cluster (reading.allow in the settings)"
        pods = self.pods()
        if pods is None:
            return "may be any address: the pods of the Ray cluster cannot be listed (reading.allow in the settings)"
        if str(address) not in pods:
            return "is no address of a pod of the Ray cluster (reading.allow in the settings)"
        return None
