"""Which proxy the environment names for an address: none for this machine, and a sentence for what can be none."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from rewards.library.vlm_judge.endpoint import Endpoint
from rewards.remote.http import RetryingClient
from rewards.remote.proxy import is_loopback, is_this_machine, proxy_for
from rl.types import UserError
from tests.rewards.library.vlm_judge.vlm_server import MODEL, FakeEndpoint, chat

FAR = "http://judge.example.org:8000/v1"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def named(monkeypatch: pytest.MonkeyPatch, url: str, **variables: str) -> str | None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    return None if found is None else f"{found.variable} {found.address.url}"


def judge(url: str) -> Endpoint:
    return Endpoint(url, MODEL, token_env=None, timeout_s=5.0, retries=0, max_requests_per_second=None)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "judge.localhost",
        "127.0.0.1",
        "127.8.9.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
    ],
)
@pytest.mark.parametrize("value", ["http://127.0.0.1:9", "proxy.corp:3128", "127.0.0.1", "socks5://127.0.0.1:9", "??"])
def test_this_machine_needs_no_proxy(monkeypatch: pytest.MonkeyPatch, host: str, value: str) -> None:
    assert named(monkeypatch, f"http://{host}:8000/v1", HTTP_PROXY=value, all_proxy=value, NO_PROXY="[") is None


def test_its_own_name_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Node7")
    assert is_this_machine("node7") and not is_loopback("node7")
    assert not is_this_machine("node8") and not is_this_machine("8.example.org") and not is_this_machine("10.0.0.7")


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"HTTP_PROXY": "http://a:1"}, "HTTP_PROXY http://a:1"),
        ({"HTTP_PROXY": "http://a:1", "http_proxy": "http://b:2"}, "http_proxy http://b:2"),
        ({"HTTP_PROXY": "a:1"}, "HTTP_PROXY http://a:1"),
        ({"Http_Proxy": "https://a"}, "Http_Proxy https://a"),
        ({"ALL_PROXY": "http://a:1"}, "ALL_PROXY http://a:1"),
        ({"ALL_PROXY": "http://a:1", "HTTP_PROXY": "http://b:2"}, "HTTP_PROXY http://b:2"),
        ({"HTTPS_PROXY": "http://a:1"}, None),
        ({"HTTP_PROXY": ""}, None),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "localhost, .example.org"}, None),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "judge.example.org"}, None),
        ({"HTTP_PROXY": "http://a:1", "no_proxy": "*"}, None),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "*localhost,[::1,10.0.0.0/8"}, "HTTP_PROXY http://a:1"),
    ],
)
def test_far_away(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], found: str | None) -> None:
    assert named(monkeypatch, FAR, **variables) == found


def test_a_network_may_be_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost, 10.0.0.0/8 ,fd00::/8")
    assert named(monkeypatch, "http://10.1.2.3/v1", HTTP_PROXY="http://a:1") is None
    assert named(monkeypatch, "http://[fd00::7]/v1") is None
    assert named(monkeypatch, "http://11.1.2.3/v1") == "HTTP_PROXY http://a:1"


@pytest.mark.parametrize("value", ["ftp://a:1", "http://a:port", "http://", "http://[::1", "://"])
def test_what_can_be_no_proxy_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(UserError) as caught:
        judge(FAR)
    text = str(caught.value)
    assert text.startswith(
        f"vlm_judge.options.url: {FAR} would be reached by a proxy, and the environment variable ALL_"
    )
    assert text.endswith("correct or unset it, or add judge.example.org to NO_PROXY") and "\n" not in text


def test_a_socks_proxy_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://somebody:secret@a:1")
    with pytest.raises(
        UserError, match="ALL_PROXY names a SOCKS proxy, which needs the package socksio: `pip in"
    ) as at:
        proxy_for(FAR)
    assert "secret" not in str(at.value)


def test_a_dead_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        monkeypatch.setenv("http_proxy", f"http://somebody:secret@127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(UserError) as caught:
            judge(FAR).check()
    text = str(caught.value)
    assert (
        f"{FAR} does not answer through the proxy http://127.0.0.1:" in text and "of http_proxy (ConnectError" in text
    )
    assert text.endswith("add its host to NO_PROXY or unset http_proxy") and "secret" not in text


def test_a_judge_on_this_machine_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with FakeEndpoint(lambda *_: chat("yes")) as server:
        judge(server.url).check()
        assert server.listings == 1


def test_certificates_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(UserError, match=r"what SSL_CERT_FILE names \(No such file or directory\); correct or unset it"):
        RetryingClient(token=None, timeout_s=1.0, retries=0, largest_answer=1)
