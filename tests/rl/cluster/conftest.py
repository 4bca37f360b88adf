"""One Ray cluster for all runs that need a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

STORE = 75 << 20  # bytes


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    """Of one cluster for all runs."""
    ray = pytest.importorskip("ray")
    quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    # the smallest object store that Ray allows, and no way round it onto the disk: it can be full
    context = ray.init(
        address="local",  # not one that somebody else has started here
        num_cpus=8,
        object_store_memory=STORE,
        _system_config={"local_fs_capacity_threshold": 1e-6},
        **quiet,
    )
    yield context.address_info["address"]
    ray.shutdown()
