"""Where a call comes from, as far as it can be believed, and which networks that lies in."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Network = IPv4Network | IPv6Network

# This machine, the cluster's own networks, and link-local ones, from which Cloud Run asks for its probes.
# Source: https://www.rfc-editor.org/rfc/rfc1918, rfc4193, rfc3927, rfc4291, rfc6598
PRIVATE: Sequence[Network] = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)
_LOOPBACK: Sequence[Network] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
ANYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def caller_address(scope: Mapping[str, Any], forwarded_hops: int) -> str:
    """Return the caller's address as text, "" when nothing is known of it (a Unix socket, a proxy that hides it).

    `forwarded_hops` proxies in front are believed: each has added the address that called it to the end of
    X-Forwarded-For. What stands further to the left anybody can have written. Where fewer are listed, the request went
    past the outer ones, and the first counts; where none is, as with a probe from inside, the connection's own address.
    """
    peer = scope.get("client")
    own = peer[0] if peer else ""
    if not forwarded_hops:
        return own
    listed: list[str] = []
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            listed += value.decode("latin-1").split(",")
    if not listed:
        return own
    address = _without_port(listed[-min(forwarded_hops, len(listed))].strip())
    return address if _parse(address) is not None else ""


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def is_forwarded(scope: Mapping[str, Any]) -> bool:
    """Tell whether a proxy has passed the request on: then its connection says nothing about who asks."""
    return any(name in (b"x-forwarded-for", b"forwarded") for name, _ in scope["headers"])


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read networks such as 10.0.0.0/8, or single addresses. Raises ValueError that names the one that is none."""
    networks = []
    for text in texts:
        try:
            networks.append(ip_network(text.strip()))
        except ValueError:
            raise ValueError(
                f"{text.strip()[:60]!r} is no network such as 10.0.0.0/8, or has bits behind its mask"
            ) from None
    return tuple(networks)


def operations_networks(text: str) -> tuple[Network, ...]:
    """Read OPERATIONS_NETWORKS: all, private, none, or networks, comma-separated. Raises ValueError."""
    match text.strip().lower():
        case "all":
            return ANYWHERE
        case "private":
            return tuple(PRIVATE)
        case "none" | "":
            return ()
    return parse_networks(text.split(","))


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Tell whether `address` lies in one of `networks`; what is no IP address lies nowhere."""
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in networks if network.version == parsed.version)


def is_loopback(address: str) -> bool:
    """Tell whether the caller is on this machine."""
    return is_within(address, _LOOPBACK)


def group_of(address: str) -> str:
    """Return what failures are counted by: an IPv4 address, or the /64 that one IPv6 customer has to itself."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((int(parsed) >> 64 << 64, 64)))
    return address if parsed is not None else "unknown"


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
