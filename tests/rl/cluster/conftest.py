"""One Ray cluster for all runs that need a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    """Of one cluster for all runs."""
    ray = pytest.importorskip("ray")
    context = ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield context.address_info["address"]
    ray.shutdown()
