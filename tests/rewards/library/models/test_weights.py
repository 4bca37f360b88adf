from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rewards.library.models.heads import linear_chain
from rewards.library.models.weights import batches, fill, find_file, read_weights, runtime
from rl.types import UserError

LINEAR = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}


@pytest.mark.parametrize("name", ["head.pth", "head.safetensors", "wrapped.pt"])
def test_every_format_reads_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(LINEAR, path)
    else:
        torch.save({"state_dict": LINEAR, "epoch": 3} if name == "wrapped.pt" else LINEAR, path)
    state = read_weights(find_file(str(path), at="aesthetic.options"), at="aesthetic.options")
    assert {key: value.tolist() for key, value in state.items()} == {"weight": [[1.0, 2.0]], "bias": [3.0]}


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran while weights were read",))


def test_a_weight_file_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="evil.pth can't be read as weights"):
        read_weights(tmp_path / "evil.pth", at="aesthetic.options")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut"])
def test_broken_files(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_weights(tmp_path / name, at="hpsv2.options")
    text = str(caught.value)
    assert text.startswith(f"hpsv2.options.checkpoint: {tmp_path / name} can't be read as weights (")
    assert text.endswith("name a state dict saved as .safetensors, .pth or .pt")
    assert "\n" not in text


def test_a_file_without_a_state_dict(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError) as caught:
        read_weights(tmp_path / "list.pth", at="hpsv2.options")
    assert str(caught.value) == (
        f"hpsv2.options.checkpoint: {tmp_path / 'list.pth'} holds no state dict (names with tensors)"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bias": None}, "lacks bias"),
        ({"extra": torch.zeros(1)}, "has the unknown extra"),
        ({"weight": torch.zeros(1, 3)}, "has another shape of weight"),
        ({"weight": None, "bias": None}, "lacks bias and 1 more"),
    ],
)
def test_fill_takes_exactly_the_modules_tensors(change: dict[str, torch.Tensor | None], said: str) -> None:
    state = {name: value for name, value in {**LINEAR, **change}.items() if value is not None}
    with pytest.raises(UserError) as caught:
        fill(torch.nn.Linear(2, 1), state, at="hpsv2.options")
    assert str(caught.value) == f"hpsv2.options.checkpoint: the checkpoint {said}: it is another model's"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("tpu", "float32", 1), "x.options.device is 'tpu': it must be 'auto', 'cpu', 'cuda' or 'cuda:0'"),
        (("cuda:x", "float32", 1), "x.options.device is 'cuda:x': it must be 'auto', 'cpu', 'cuda' or 'cuda:0'"),
        (
            ("cuda:99", "float32", 1),
            f"x.options.device is 'cuda:99', and torch sees {torch.cuda.device_count()} CUDA devices; "
            f"set it to 'auto' or 'cpu'",
        ),
        (("cpu", "fp8", 1), "x.options.dtype is 'fp8': it must be one of float32, bfloat16, float16"),
        (("cpu", "float32", 0), "x.options.batch_size is 0: it must be a whole number of 1 or more"),
        (("cpu", "float32", True), "x.options.batch_size is True: it must be a whole number of 1 or more"),
    ],
)
def test_wrong_options(options: tuple[str, str, int], message: str) -> None:
    with pytest.raises(UserError) as caught:
        runtime("x.options", *options)
    assert str(caught.value) == message


def test_auto_takes_what_is_there() -> None:
    assert runtime("x.options", "auto", "float32", 1).device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_batches_cover_everything_once() -> None:
    assert [list(range(7))[part] for part in batches(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches(0, 3) == []


def test_a_chain_of_linear_layers_by_hand() -> None:
    # 2 -> 2 -> 1 with a gap in the numbers, as dropouts leave it; the order of the names does not matter.
    state = {
        "layers.10.weight": torch.tensor([[1.0, -1.0]]),
        "layers.10.bias": torch.tensor([0.5]),
        "layers.2.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "layers.2.bias": torch.tensor([10.0, 20.0]),
    }
    chain = linear_chain(state, at="aesthetic.options")
    # (1, 1) -> (3 + 10, 7 + 20) = (13, 27) -> 13 - 27 + 0.5; nothing clips the negative values between
    assert chain(torch.tensor([[1.0, 1.0], [-20.0, 0.0]])).tolist() == [[-13.5], [-10.0 + 40.0 + 0.5]]
    assert linear_chain(LINEAR, at="aesthetic.options")(torch.tensor([[5.0, 7.0]])).tolist() == [[22.0]]


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"layers.0.weight": torch.zeros(1, 4), "other": torch.zeros(1)},
        {"layers.0.weight": torch.zeros(2, 4), "layers.0.bias": torch.zeros(2)},  # two numbers out
        {"layers.0.weight": torch.zeros(3, 4), "layers.2.weight": torch.zeros(1, 2)},  # 3 numbers into 2
    ],
)
def test_what_is_no_head(state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(UserError) as caught:
        linear_chain(state, at="aesthetic.options")
    assert str(caught.value) == (
        "aesthetic.options.checkpoint: this is no head on embeddings; expected `layers.0.weight`, `layers.0.bias` and "
        "so on down to one number, or a single `weight` and `bias`"
    )
