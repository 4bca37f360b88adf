"""Which proxy the environment names for an address. None for this machine: a proxy would look at its own loopback."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from urllib.request import getproxies_environment, proxy_bypass

import httpx

from rl.types import UserError


@dataclass(frozen=True)
class Proxy:
    """An address, and the environment variable that names it."""

    variable: str
    address: httpx.Proxy

    def __str__(self) -> str:
        """Without the name and password that may be in it."""
        return f"the proxy {self.address.url} of {self.variable}"


def proxy_for(url: str) -> Proxy | None:
    """The proxy of ``HTTP_PROXY``, ``HTTPS_PROXY`` or ``ALL_PROXY`` for ``url``, unless ``NO_PROXY`` excepts its host.

    Raises ``UserError`` naming the variable if it holds nothing that can be a proxy.
    """
    target, named = httpx.URL(url), getproxies_environment()
    kind = target.scheme if target.scheme in named else "all"
    if kind not in named or is_this_machine(target.host) or _excepted(target.host, named):
        return None
    variable, address = _variable(kind), named[kind]
    try:
        found = httpx.Proxy(address if "://" in address else f"http://{address}")
    except (httpx.InvalidURL, ValueError) as error:
        raise UserError(f"the environment variable {variable} names no proxy ({error}); {_way_on(target)}") from error
    if not found.url.host:
        raise UserError(f"the environment variable {variable} names a proxy without a host; {_way_on(target)}")
    _check_socks(found, variable, target)
    return Proxy(variable, found)


def is_loopback(host: str) -> bool:
    """Whether it is ``localhost`` or an address that only this machine can reach."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _ip(host)
    return address is not None and address.is_loopback


def is_this_machine(host: str) -> bool:
    """Also its own name, and 0.0.0.0, which connects to itself."""
    address = _ip(host)
    return is_loopback(host) or host == socket.gethostname().lower() or (address is not None and address.is_unspecified)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _short_ip(host)
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def _short_ip(host: str) -> ipaddress.IPv4Address | None:
    """Of ``127.1``, which is connected to as 127.0.0.1."""
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host[:1].isdigit() else None
    except OSError:
        return None


def _excepted(host: str, named: dict[str, str]) -> bool:
    """By name or domain, as urllib and curl read ``NO_PROXY``, or by network, ``10.0.0.0/8``."""
    if proxy_bypass(host, named):
        return True
    address = _ip(host)
    networks = (_network(entry.strip()) for entry in named.get("no", "").split(","))
    return address is not None and any(network is not None and address in network for network in networks)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _variable(kind: str) -> str:
    """As it is written; lower case counts before upper case."""
    name = f"{kind}_proxy"
    return name if os.environ.get(name) else next(other for other in os.environ if other.lower() == name)


def _check_socks(proxy: httpx.Proxy, variable: str, target: httpx.URL) -> None:
    if not proxy.url.scheme.startswith("socks"):
        return
    try:
        import socksio  # noqa: F401 - what httpx itself imports for it
    except ImportError as error:
        raise UserError(
            f"the environment variable {variable} names a SOCKS proxy, which needs the package socksio: "
            f"`pip install socksio`; {_way_on(target)}"
        ) from error


def _way_on(target: httpx.URL) -> str:
    return f"correct or unset it, or add {target.host} to NO_PROXY"
