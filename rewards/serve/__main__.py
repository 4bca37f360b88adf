"""Serve rewards over HTTP: ``python -m rewards.serve --reward ocr --option grading=exact --port 8000``.

Once everything is loaded, one line with the address is printed. The server listens on this machine only; any other
``--host`` needs ``--token-env``, the name of an environment variable with a token that every request must bring. It
speaks plain HTTP: across networks that are not yours, put it behind a reverse proxy with TLS. Such a proxy also cuts
off what this server waits for: connections that say nothing or send a request's head bit by bit, and clients that do
not take their answer. Above ``--max-connections`` requests under way others are answered 503; a silent connection keeps
nobody out. The size, the pixels and the time of bodies are limited here. Ctrl-C or SIGTERM: requests under way get
``--grace`` seconds to finish, then the workers are stopped. Exit codes: 0 stopped, 2 a user's mistake, 130 interrupted
while loading.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from types import FrameType

import uvicorn

from rewards.command_line import add_reward_arguments, named_components, positive_float, positive_int
from rewards.needs import settle_needs
from rewards.remote.bearer import token_in
from rewards.remote.proxy import is_loopback
from rewards.remote.wire import RequestLimits
from rewards.serve.app import create_app
from rewards.serve.metrics import ServerMetrics
from rewards.serve.service import RewardService
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.types import UserError

_LAST_WORDS_S = 0.2  # for the last answers to leave
_FIXES = {
    errno.EADDRINUSE: "; name another --port, or 0 for a free one",
    errno.EADDRNOTAVAIL: "; --host must be an address of this machine",
    errno.EACCES: "; ports under 1024 are the administrator's, name another --port",
}
_KEEP_ALIVE_S = 15  # longer than httpx (5 s), or a client sends on a connection that is just being closed


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, load, serve; returns the exit code."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        serve(given)
    except KeyboardInterrupt:
        return 130
    return 0


def serve(given: argparse.Namespace) -> None:
    """Serve until told to stop. Raises ``UserError`` for an address, token or reward that cannot be used."""
    rewards = named_components(given.rewards, given.workers)
    token = read_token(given.host, given.token_env)
    limits = RequestLimits(max_bytes=given.max_bytes, max_pixels=given.max_pixels, max_batch=given.max_batch)
    metrics = ServerMetrics()
    with ExitStack() as stack:
        listener = stack.enter_context(bind(given.host, given.port))
        workers = {name: settle_needs(name, reward)[0].workers for name, reward in rewards.items()}
        services = {
            name: stack.enter_context(
                RewardService(
                    name,
                    reward,
                    limits,
                    metrics,
                    queue=given.queue,
                    timeout_s=given.timeout,
                    other_workers=sum(workers.values()) - workers[name],
                )
            )
            for name, reward in rewards.items()
        }
        app = create_app(
            services,
            metrics,
            limits=limits,
            token=token,
            read_timeout_s=given.read_timeout,
            max_requests=given.max_connections,
        )
        config = uvicorn.Config(
            app,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        server = RewardServer(config, services, _url(listener), given.grace)
        with suppress(KeyboardInterrupt):  # how uvicorn passes the signal on after it has stopped
            server.run(sockets=[listener])


class RewardServer(uvicorn.Server):
    """Says when it is ready, and when told to stop answers what it can within ``grace_s``."""

    def __init__(self, config: uvicorn.Config, services: Mapping[str, RewardService], url: str, grace_s: float) -> None:
        super().__init__(config)
        self._services, self._url, self._grace_s = services, url, grace_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or ():
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            await super().startup(sockets)
        except OSError as error:  # another server has taken the port while the rewards were loading
            raise UserError(f"--port: can't listen at {self._url}: {error}") from error
        print(f"serving {', '.join(self._services)} at {self._url}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        giving_up = asyncio.create_task(self._give_up())
        await super().shutdown(sockets)
        giving_up.cancel()

    async def _give_up(self) -> None:
        """After the grace: 503 for what is waiting or being scored, then an end to connections that still send."""
        await asyncio.sleep(self._grace_s)
        await asyncio.gather(*(asyncio.to_thread(service.close) for service in self._services.values()))
        await asyncio.sleep(_LAST_WORDS_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def read_token(host: str, variable: str | None) -> str | None:
    """The token that requests must bring. Raises ``UserError`` if there must be one and there is none."""
    if variable is None:
        if not is_loopback(host):
            raise UserError(
                f"--host {host} can be reached from other machines, so a token is needed: put a long random one into "
                f"an environment variable and name it, for example --token-env EASEL_TOKEN"
            )
        return None
    return token_in(variable, f"--token-env {variable}")


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: while the rewards load, clients are refused rather than left waiting.

    ``SO_REUSEADDR`` is for connections of a server that has just ended; it is taken back until this one listens, or
    another could take the port as well and would be told only after its rewards are loaded.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        fix = _FIXES.get(error.errno or 0, "") if isinstance(error, OSError) else ""
        raise UserError(f"--host {host} --port {port} can't be used: {error}{fix}") from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _port(text: str) -> int:
    """For ``type=``: what an address can hold; the system would take 65536 for 0."""
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a whole number up to 65535, 0 for a free one")
    return int(text)


def _host(text: str) -> str:
    """For ``type=``: Python would take nothing for all addresses of the machine."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; name an address to listen on, such as 127.0.0.1")
    return text.strip()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="python -m rewards.serve", description=(__doc__ or "").partition("\n")[0])
    add_reward_arguments(parser)
    add, limits = parser.add_argument, RequestLimits()
    add(
        "--host",
        type=_host,
        default="127.0.0.1",
        help="address to listen on (default 127.0.0.1; any other needs --token-env)",
    )
    add("--port", type=_port, default=8000, help="0 takes a free one and prints it (default 8000)")
    add("--token-env", metavar="VARIABLE", help="environment variable with the token that requests must bring")
    add("--timeout", type=positive_float, default=60.0, metavar="S", help="of a batch in a worker (default 60 s)")
    add("--queue", type=positive_int, default=16, metavar="N", help="requests in work per reward (default 16)")
    add("--max-bytes", type=positive_int, default=limits.max_bytes, metavar="N", help="of a body (default 64 MiB)")
    add(
        "--max-pixels",
        type=positive_int,
        default=limits.max_pixels,
        metavar="N",
        help="of all pictures of a request together (default 67 million: 64 of 1024 x 1024)",
    )
    add("--max-batch", type=positive_int, default=limits.max_batch, metavar="N", help="samples of a request")
    add("--max-connections", type=positive_int, default=64, metavar="N", help="requests under way at once (default 64)")
    add("--read-timeout", type=positive_float, default=30.0, metavar="S", help="for a body to arrive (default 30 s)")
    add("--grace", type=positive_int, default=5, metavar="S", help="for requests under way at the end (default 5 s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
