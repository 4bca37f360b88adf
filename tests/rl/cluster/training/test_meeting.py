"""Ranks of one machine meet where nobody outside can come."""

from __future__ import annotations

import psutil
import torch.distributed as dist

from rl.cluster.training.meeting import served


def test_a_store_inside_a_machine_listens_inside_it_alone() -> None:
    store = served("127.0.0.1")
    listening = [one for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip for one in listening if one.laddr.port == store.port} == {"127.0.0.1"}
    other = dist.TCPStore("127.0.0.1", store.port, None, is_master=False, wait_for_workers=False)
    other.set("word", "heard")
    assert store.get("word") == b"heard"


def test_a_store_for_other_machines_is_found_at_the_address_that_is_told() -> None:
    assert served("127.0.0.2").port > 0
