"""Floors by hand, on a layer small enough to count."""

from __future__ import annotations

import pytest
import torch

from rl.bench import floor
from rl.bench.floor import StageWork, memory_bandwidth, products_s, stage_floor
from rl.bench.kinds import ATTENTION, PRODUCTS, REWARDS, TRAFFIC
from rl.bench.language_model_work import ModelSizes, adam_traffic, sampling, sync_traffic
from rl.bench.products import Product, Recorder

F32 = torch.float32


def recorded(call) -> dict[str, int]:
    """Name of the product -> FLOPs of all its calls."""
    recorder = Recorder()
    recorder.stage = "here"
    with recorder:
        call()
    assert set(recorder.called) <= {"here"}
    found: dict[str, int] = {}
    for product, calls in recorder.called["here"].items():
        name = str(product.function).split(".")[1]
        found[name] = found.get(name, 0) + product.flops * calls
    return found


def test_a_known_product() -> None:
    rows, weights = torch.ones(3, 5), torch.ones(5, 7)
    assert recorded(lambda: rows @ weights) == {"mm": 2 * 3 * 5 * 7}


def test_a_layer_forward_and_backward() -> None:
    layer, rows = torch.nn.Linear(5, 7), torch.ones(3, 5, requires_grad=True)
    assert recorded(lambda: layer(rows).sum().backward()) == {"addmm": 2 * 3 * 5 * 7, "mm": 2 * 2 * 3 * 5 * 7}


def test_what_is_called_without_gradients_is_seen_too() -> None:
    layer, rows = torch.nn.Linear(5, 7), torch.ones(3, 5)
    with torch.inference_mode():
        assert recorded(lambda: layer(rows)) == {"addmm": 2 * 3 * 5 * 7}


def test_a_convolution() -> None:
    layer, images = torch.nn.Conv2d(3, 4, 3, padding=1), torch.ones(2, 3, 8, 8)
    with torch.no_grad():
        assert recorded(lambda: layer(images)) == {"convolution": 2 * 2 * 8 * 8 * 4 * 3 * 9}


@pytest.mark.parametrize(("causal", "share"), [(False, 1), (True, 2)])
def test_attention_forward_and_backward(causal: bool, share: int) -> None:
    query, key, value = (torch.randn(2, 3, 6, 4, requires_grad=True) for _ in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    found = recorded(lambda: attend(query, key, value, is_causal=causal).sum().backward())
    one = 2 * 2 * 3 * 6 * 6 * 4
    assert found["_scaled_dot_product_flash_attention_for_cpu"] == 2 * one // share
    assert found["_scaled_dot_product_flash_attention_for_cpu_backward"] == 5 * one // share


def test_every_recorded_product_can_be_timed_alone() -> None:
    image, query = torch.ones(1, 2, 4, 4), torch.randn(1, 2, 3, 4)
    mask, convolution = torch.zeros(1, 1, 1, 3), torch.nn.Conv2d(2, 2, 3)
    recorder = Recorder()
    with recorder:
        convolution(image).sum().backward()
        torch.nn.functional.scaled_dot_product_attention(query, query, query, attn_mask=mask)
        torch.ones(3, 1).expand(3, 5) @ torch.ones(5, 2)
    assert len(recorder.called[""]) == 4
    assert all(product.seconds() > 0 for product in recorder.called[""])


def test_flops_over_the_rate_and_bytes_over_the_bandwidth() -> None:
    small, large = Product.matrices(10, 10, 10, F32), Product.matrices(100, 10, 10, F32)
    work = StageWork({small: 2, large: 1}, traffic=4e9, cpu_s=3.0)
    least = stage_floor("paint", work, {small: 0.25, large: 1.5}.__getitem__, bandwidth=8e9, cores=2)
    assert least.gflop == pytest.approx((2 * 2000 + 20000) / 1e9)
    assert least.seconds == pytest.approx(2 * 0.25 + 1.5 + 4 / 8 + 3 / 2)
    assert least.kinds == pytest.approx({PRODUCTS: 2 * 0.25 + 1.5, TRAFFIC: 4 / 8, REWARDS: 3 / 2})


def test_attention_is_told_apart_from_other_products() -> None:
    query, recorder = torch.randn(1, 2, 3, 4), Recorder()
    with recorder, torch.no_grad():
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
        torch.ones(3, 5) @ torch.ones(5, 2)
        torch.nn.Conv2d(2, 2, 3)(torch.ones(1, 2, 4, 4))
    assert sorted(one.kind for one in recorder.called[""]) == [ATTENTION, PRODUCTS, PRODUCTS]


def test_the_last_percent_counts_at_the_mean_rate() -> None:
    large, tiny = Product.matrices(1000, 10, 10, F32), Product.matrices(1, 10, 10, F32)
    assert products_s({large: 1, tiny: 1}, {large: 2.0}.__getitem__) == pytest.approx({PRODUCTS: 2.0 * 1001 / 1000})
    assert products_s({}, {}.__getitem__) == {}


def test_sampling_from_the_sizes_of_the_model() -> None:
    sizes = ModelSizes(layers=2, linear=((4, 8), (8, 4)), head=(4, 5), cached=16)
    work = sampling(sizes, [3, 4], group_size=2, tokens=3, dtype=F32)
    prefill, decoding, heads = 2 * 7 * 64 * 2, 2 * 4 * 64 * 2 * 2, 2 * 4 * 20 * 3
    assert work.flops == prefill + decoding + heads
    weights = (2 * 64 + 20) * 3
    cache = (7 + 4 * 1) * 16 + (7 + 4 * 2) * 16  # each prompt once for its group, and what its samples have written
    assert work.traffic == 4 * (weights + cache)


def test_weights_and_moments_on_their_way() -> None:
    assert adam_traffic(10, updates=2) == 7 * 4 * 10 * 2
    assert sync_traffic(10, torch.bfloat16) == 2 * 10 * 2


def test_the_bandwidth_is_what_the_fastest_copy_reads_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.1, 1.0, 1.5, 2.0, 2.25, 3.0, 4.0])  # the first one finds pages that nobody has touched
    monkeypatch.setattr(floor, "_COPIED", 1000)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert memory_bandwidth() == 2 * 4000 / 0.25


def test_the_bandwidth_of_this_machine_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "_COPIED", 1 << 22)
    assert 1e9 < memory_bandwidth() < 2e12  # of one bank of the slowest memory in use, of a server's caches
