"""How the ranks of the trainer find each other: in a store of the first one, whose port is free because it is bound."""

from __future__ import annotations

import socket
from collections.abc import MutableMapping, Sequence

import psutil
import torch.distributed as dist

from rl.cluster.training.messages import Residence
from rl.process.ranks import Place

_HERE = "127.0.0.1"
_BACKLOG = 1024  # all ranks come at one time
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def served(address: str) -> dist.TCPStore:
    """A store that lives in this process; ``port`` tells where."""
    if address != _HERE:
        return dist.TCPStore(address, 0, None, is_master=True, wait_for_workers=False)
    # by itself it would listen on every address of the machine
    listening = socket.create_server((_HERE, 0), backlog=_BACKLOG)
    port = listening.getsockname()[1]
    return dist.TCPStore(_HERE, port, None, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())


def address_for(residences: Sequence[Residence]) -> str:
    """At which the first one serves: nobody outside hears of it where all are on one machine."""
    return _HERE if len({one.node for one in residences}) == 1 else residences[0].address


def places(residences: Sequence[Residence], address: str, port: int) -> list[Place]:
    """By rank. Each sees one GPU, so that its number on the machine is 0 for all of them."""
    nodes = [one.node for one in residences]
    return [
        Place(rank, len(nodes), 0, nodes.count(node), address, port, store_is_there=True)
        for rank, node in enumerate(nodes)
    ]


def prepare(place: Place, environment: MutableMapping[str, str]) -> None:
    """What libraries look for: who this rank is, and on a machine of several networks the one of the others."""
    told = {"RANK": place.rank, "WORLD_SIZE": place.world, "LOCAL_RANK": place.local_rank}
    told["LOCAL_WORLD_SIZE"] = place.local_world
    for name, number in told.items():
        environment[name] = str(number)
    if place.address == _HERE:
        return
    mine = ray_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == mine for one in addresses):
            for key in _INTERFACES:
                environment.setdefault(key, name)


def ray_address() -> str:
    """Of this machine, as the cluster knows it."""
    import ray

    return str(ray.util.get_node_ip_address())
