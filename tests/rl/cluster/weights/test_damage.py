"""A hundred ways to work with other weights than those that were published, and a hundred sentences."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from policy.checksums import exact_sum
from policy.trainable import WeightStream
from rl.cluster.weights.follow import load_into
from rl.cluster.weights.manifest import MANIFEST_FILE, TensorEntry
from rl.cluster.weights.sets import set_folder
from rl.cluster.weights.store import WeightStore
from rollout.proof import LiveSum
from rollout.weights import SyncError
from tests.rl.cluster.weights.sets_case import TinyFollower, opened, publish

OLD, NEW = 1, 2
Case = Callable[[random.Random, WeightStore, Path], tuple[TinyFollower, str]]
"""Does the damage; returns who loads the new version, and what the sentence must name beside the version."""


class BadFollower(TinyFollower):
    """Says that it has loaded everything."""

    def __init__(self, harm: Callable[[str, list[tuple[str, Tensor]]], list[tuple[str, Tensor]]]) -> None:
        super().__init__()
        self.harm = harm

    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        before = [(name, value.clone()) for name, value in self.live(part).items()]
        super().load_weights(part, weights, version)
        for name, value in self.harm(part, before):
            self.live(part)[name].copy_(value)


def skipped_tensor(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    entry, part = a_tensor(rng, store)
    return BadFollower(lambda loaded, old: [one for one in old if one[0] == entry.name and part == loaded]), entry.name


def skipped_load(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    part = rng.choice(["ar", "decoder"])
    return BadFollower(
        lambda loaded, old: old if part == loaded else []
    ), rf"of {part} is not what \S+/{part}.bin holds"


def partial_load(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    share = rng.uniform(0.1, 0.9)
    return BadFollower(
        lambda part, old: old[int(share * len(old)) :]
    ), r"live parameter '\S+' of ar is not what \S+/version-000002/ar.bin holds"


def swapped_in_the_follower(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    """Two matrices of one shape: all bits are there, and the sum of the whole is right."""
    layers, kind = [0, 1], rng.choice(["mlp.up_proj", "mlp.down_proj", "self_attn.q_proj", "self_attn.o_proj"])
    names = [f"model.layers.{layer}.{kind}.weight" for layer in layers]
    with store.load(NEW) as found:
        held = dict(found.stream("ar").tensors())
        swapped = [(names[0], held[names[1]].clone()), (names[1], held[names[0]].clone())]
    return BadFollower(lambda part, _: swapped if part == "ar" else []), names[0]


def flipped_bit_in_the_follower(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    """Of any number, the least bit of its mantissa as well as its sign."""
    entry, wanted = a_tensor(rng, store)

    def harm(part: str, _: list[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
        if part != wanted:
            return []
        value = follower.live(part)[entry.name].clone()
        value.view(-1).view(torch.int32)[rng.randrange(value.numel())] ^= 1 << rng.randrange(31)
        return [(entry.name, value)]

    follower = BadFollower(harm)
    return follower, entry.name


def flipped_byte_in_the_file(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    entry, part = a_tensor(rng, store)
    change(folder / f"{part}.bin", entry.start + rng.randrange(entry.size), 1 << rng.randrange(8))
    return TinyFollower(), rf"'{re.escape(entry.name)}' in \S+{part}.bin"


def flipped_byte_in_the_manifest(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    path = folder / MANIFEST_FILE
    change(path, rng.randrange(path.stat().st_size - 1), 1 << rng.randrange(7))
    return TinyFollower(), rf"{MANIFEST_FILE} is damaged"


def truncated_file(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    path = folder / rng.choice(["ar.bin", "decoder.bin", MANIFEST_FILE])
    size = path.stat().st_size
    writable(path).write_bytes(path.read_bytes()[: rng.randrange(size - 1)])
    return TinyFollower(), path.name


def missing_file(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    path = folder / rng.choice(["ar.bin", "decoder.bin", MANIFEST_FILE])
    path.unlink()
    return TinyFollower(), path.name


def old_file(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    """Of the version before, under the manifest of the new one."""
    name = rng.choice(["ar.bin", "decoder.bin"])
    shutil.copy(set_folder(store.folder, OLD) / name, writable(folder / name))
    return TinyFollower(), rf"in \S+{name} .* is damaged"


def old_set(rng: random.Random, store: WeightStore, folder: Path) -> tuple[TinyFollower, str]:
    shutil.rmtree(folder)
    shutil.copytree(set_folder(store.folder, OLD), folder)
    return TinyFollower(), f"is the manifest of version {OLD}, so these weights are old ones"


CASES: Sequence[Case] = (
    *(skipped_tensor, skipped_load, partial_load, swapped_in_the_follower, flipped_bit_in_the_follower),
    *(flipped_byte_in_the_file, flipped_byte_in_the_manifest, truncated_file, missing_file, old_file, old_set),
)


def test_a_hundred_of_a_hundred_are_caught(tmp_path: Path) -> None:
    with opened(tmp_path / "whole") as whole:
        for version in (OLD, NEW):
            publish(whole, version)
        good = TinyFollower()
        with whole.load(NEW) as found:
            assert load_into(good, found, tolerance=1e-3) < 1e-6 and good.versions == {"ar": NEW, "decoder": NEW}
        told: dict[str, list[str]] = {}
        for seed in range(100):
            case = CASES[seed % len(CASES)]
            with opened(tmp_path / f"{seed}") as store:
                for version in (OLD, NEW):
                    shutil.copytree(set_folder(whole.folder, version), set_folder(store.folder, version))
                follower, named = case(random.Random(seed), store, set_folder(store.folder, NEW))
                with pytest.raises(SyncError) as caught, store.load(NEW) as found:
                    load_into(follower, found, tolerance=1e-3)
            sentence = str(caught.value)
            assert re.search(named, sentence), (case.__name__, seed, sentence)
            assert f"weights of version {NEW}: " in sentence and sentence.count("\n") == 0
            told.setdefault(case.__name__, []).append(sentence)
    assert sum(map(len, told.values())) == 100
    assert len(told) == len(CASES)
    print(*(f"{name} ({len(found)}): {found[0]}" for name, found in told.items()), sep="\n")


def test_weights_rounded_for_the_follower_are_proved_in_its_own_precision(tmp_path: Path) -> None:
    follower = TinyFollower(torch.bfloat16)
    with opened(tmp_path) as store:
        publish(store, NEW)
        with store.load(NEW) as found:
            load_into(follower, found, tolerance=1.0)
            bias = exact_sum(follower.decoder["connector.proj.bias"])
            assert found.sums("decoder", torch.bfloat16)["connector.proj.bias"] == bias
            assert found.sums("decoder", torch.float32)["connector.proj.bias"] != bias
        bad = BadFollower(lambda part, old: [])
        bad.model.ar.to(torch.bfloat16)
        with store.load(NEW) as found:
            original = bad.load_weights

            def late(part: str, weights: WeightStream, version: int) -> None:
                original(part, weights, version)
                if part == "ar":
                    bad.live("ar")["model.norm.weight"].view(torch.int16)[0] ^= 1

            bad.load_weights = late  # type: ignore[method-assign]
            with pytest.raises(
                SyncError, match=r"version 2: the live parameter 'model.norm.weight' of ar is not what /"
            ):
                load_into(bad, found, tolerance=1.0)


def test_where_the_engine_has_no_sums_the_canary_speaks_and_without_both_nobody_does(tmp_path: Path) -> None:
    class Packed(BadFollower):
        def live_sums(self, part: str) -> Sequence[LiveSum] | None:
            return None

    with opened(tmp_path) as store:
        publish(store, NEW, decoder=False)
        store.publish(3, dict(a_set(store)))
        with (
            store.load(NEW) as found,
            pytest.raises(SyncError, match="canary of version 2: engine and trainer log-pro"),
        ):
            load_into(Packed(lambda part, old: old), found, tolerance=1e-3)
        with store.load(3) as found, pytest.raises(SyncError, match="version 3: nobody can say whether ar has arrived"):
            load_into(Packed(lambda part, old: []), found, tolerance=1e-3)


def test_a_packed_parameter_has_the_sum_of_its_parts(tmp_path: Path) -> None:
    class Packing(TinyFollower):
        def live_sums(self, part: str) -> list[LiveSum]:
            first, *rest = list(super().live_sums(part) or ())
            twin = next(one for one in rest if one.names != ("lm_head.weight",))
            packed = LiveSum((*first.names, *twin.names), first.dtype, (first.total + twin.total) % 2**64)
            return [packed, *(one for one in rest if one is not twin)]

    with opened(tmp_path) as store:
        publish(store, NEW)
        with store.load(NEW) as found:
            load_into(Packing(), found, tolerance=1e-3)
            less = Packing()
            less.live_sums = lambda part: Packing.live_sums(less, part)[1:]  # type: ignore[method-assign]
            with pytest.raises(SyncError, match=r"version 2: no live parameter of ar holds 'model\."):
                load_into(less, found, tolerance=1e-3)


def a_set(store: WeightStore) -> list[tuple[str, WeightStream]]:
    with store.load(NEW) as found:
        return [("ar", found.stream("ar"))]


def a_tensor(rng: random.Random, store: WeightStore) -> tuple[TensorEntry, str]:
    with store.load(NEW) as found:
        part = rng.choice(list(found.parts))
        tied = ("lm_head.weight",)  # one tensor with the embedding in this follower
        return rng.choice([one for one in found.manifest.parts[part].tensors if one.name not in tied]), part


def writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


def change(path: Path, at: int, bits: int) -> None:
    content = bytearray(writable(path).read_bytes())
    content[at] ^= bits
    path.write_bytes(content)
