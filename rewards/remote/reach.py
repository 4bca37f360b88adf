"""Whether somebody answers at an address, asked within a second. No answer in time is no verdict."""

from __future__ import annotations

import socket
from collections.abc import Collection
from threading import Thread
from time import monotonic
from urllib.parse import urlsplit

from rl.types import UserError

DEADLINE_S = 1.0
_PORTS = {"http": 80, "https": 443}


def refusals(urls: Collection[str], deadline_s: float = DEADLINE_S) -> dict[str, str]:
    """URL -> why nobody answers there, of those where that is certain: no such host, refused, no way there.

    Hosts that may be reached through a proxy, and those that say nothing in time, are left out.
    """
    found: dict[str, str] = {}
    # daemons: looking up a name takes as long as it likes
    threads = [Thread(target=_ask, args=(url, deadline_s, found), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    end = monotonic() + deadline_s
    for thread in threads:
        thread.join(max(0.0, end - monotonic()))
    return dict(found)


def _ask(url: str, deadline_s: float, found: dict[str, str]) -> None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # no address: whoever uses it says so
        return
    if not host or port is None or _through_a_proxy(url):
        return
    try:
        socket.create_connection((host, port), timeout=deadline_s).close()
    except TimeoutError:
        return
    except (OSError, UnicodeError) as error:
        found[url] = getattr(error, "strerror", None) or str(error)


def _through_a_proxy(url: str) -> bool:
    from rewards.remote.proxy import proxy_for  # imports httpx: only where there is a server

    try:
        return proxy_for(url) is not None
    except UserError:  # told by whoever uses it
        return True
