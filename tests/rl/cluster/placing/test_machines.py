"""Other machines of a cluster are asked for this code before anything is loaded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError, RayTaskError

import rl
from rl.cluster import machines
from rl.types import UserError

# in the words of Ray 2.60's function manager
WORDS = (
    "The remote function failed to import on the worker. This may be because needed library dependencies are not "
    "installed in the worker environment or cannot be found from sys.path ['/nowhere']:\n\nTraceback (most recent call "
    "last):\nModuleNotFoundError: No module named 'rl'\n"
)


class FakeRay:
    """Two machines, this one and another, which answers with ``found`` or raises it."""

    def __init__(self, found: str | Exception) -> None:
        self.found, self.asked = found, list[str]()

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "0" * 56)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"Alive": True, "NodeID": "0" * 56, "NodeManagerAddress": "10.0.0.1"},
            {"Alive": True, "NodeID": "1" * 56, "NodeManagerAddress": "10.0.0.2"},
            {"Alive": False, "NodeID": "2" * 56, "NodeManagerAddress": "10.0.0.3"},
        ]

    def remote(self, function: Any) -> FakeRay:
        return self

    def options(self, *, scheduling_strategy: Any, num_cpus: int, **_: Any) -> Any:
        assert num_cpus == 0  # or it would wait for workers of others
        self.asked.append(scheduling_strategy.node_id)
        return SimpleNamespace(remote=lambda: "reference")

    def get(self, reference: str, timeout: float) -> str:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def checked(found: str | Exception, monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    ray = FakeRay(found)
    monkeypatch.setattr(machines, "ray", ray)
    machines.require_our_code()
    return ray


def test_each_other_machine_that_lives_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(rl.__version__, monkeypatch).asked == ["1" * 56]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            RayTaskError("_version", WORDS, RuntimeError(WORDS)),
            f"can't import easel-rl (ModuleNotFoundError: No module named 'rl'); install version {rl.__version__} in "
            "the environment in which Ray was started there.",
        ),
        ("0.0.1", f"has easel-rl 0.0.1 and this one {rl.__version__}; install the same version on both."),
        (
            GetTimeoutError(),
            "has not started a process within 60 s; look into /tmp/ray/session_latest/logs there, or take it out of "
            "the cluster (ray stop).",
        ),
    ],
)
def test_one_that_can_not_do_the_work_is_named(
    found: str | Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as caught:
        checked(found, monkeypatch)
    assert str(caught.value) == f"cluster: the machine 10.0.0.2 {told}"
