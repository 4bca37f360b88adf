"""The policy folder, the one forward, the decoder and the tokenizer."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from policy.ar.forward import image_forward
from policy.ar.layers import LayerHalves
from policy.ar.loading import make_connector
from policy.base import Policy
from policy.folder import read_policy_config, resolve_folder
from policy.shapes.model import make_ar, make_random
from rl.data.pictures import Picture
from rl.types import Prompt, UserError

PROMPTS = ("a red circle", "a photo of a star above a ring", "two rings", 'the word "CAT"')


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return Policy.load(make_random(tmp_path_factory.mktemp("policy") / "p"))


def _tokens(policy: Policy, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    layout = policy.layout
    shape = (rows, layout.tokens_per_image)
    return torch.randint(layout.image_start_id, layout.image_end_id, shape, generator=generator)


def test_saved_and_loaded_policy_is_the_same(policy: Policy, tmp_path: Path) -> None:
    policy.save(tmp_path / "copy")
    again = Policy.load(tmp_path / "copy")
    assert again.layout == policy.layout
    assert again.text_ids("two rings") == policy.text_ids("two rings")
    for name, value in policy.ar.state_dict().items():
        assert torch.equal(value, again.ar.state_dict()[name])
    for name, value in policy.decoder.state_dict().items():
        assert torch.equal(value, again.decoder.state_dict()[name])


def test_prompts_end_with_the_start_of_the_picture(policy: Policy) -> None:
    ids = policy.text_ids("two rings")
    assert ids[-2:] == (policy.layout.im_start_id, policy.layout.scale_id)
    assert policy.encode_prompt.unknown_words("two purple dogs") == ["dogs"]
    edit = Prompt("e", "two rings", pictures=(Picture(np.zeros((2, 2, 3), np.uint8)),), source="p.jsonl:3")
    with pytest.raises(UserError) as caught:
        policy.encode_prompt(edit)
    assert str(caught.value) == (
        "prompt 'e' ('two rings', p.jsonl:3) holds pictures, and this policy reads text alone; take them out of the "
        "prompt's line or choose a policy that reads pictures"
    )


def test_logprobs_are_those_of_the_masked_and_tempered_softmax(policy: Policy) -> None:
    ids, tokens = policy.text_ids(PROMPTS[0]), _tokens(policy, 1)
    full = torch.tensor([[*ids, *tokens[0].tolist()]])
    with torch.no_grad():
        logits = policy.ar(input_ids=full).logits[0, len(ids) - 1 : -1]
        found = image_forward(policy.ar, policy.layout.image, [ids], tokens, temperature=0.8)
    masked = logits[:, policy.layout.image_start_id : policy.layout.image_end_id] / 0.8
    expected = masked.log_softmax(-1).gather(1, (tokens[0] - policy.layout.image_start_id)[:, None])[:, 0]
    torch.testing.assert_close(found.logprobs_BT[0], expected, atol=1e-5, rtol=0)
    probabilities = masked.softmax(-1)
    torch.testing.assert_close(found.entropy_BT[0], -(probabilities * probabilities.log()).sum(-1), atol=1e-4, rtol=0)


def test_hidden_states_are_after_the_final_norm_at_scale_and_image_tokens(policy: Policy) -> None:
    ids, tokens = policy.text_ids(PROMPTS[1]), _tokens(policy, 1)
    full = torch.tensor([[*ids, *tokens[0].tolist()]])
    with torch.no_grad():
        states = policy.ar.model(input_ids=full).last_hidden_state[0]
        hidden = image_forward(policy.ar, policy.layout.image, [ids], tokens).hidden_BSD[0]
    assert hidden.shape == (policy.layout.tokens_per_image + 1, policy.ar.config.hidden_size)
    torch.testing.assert_close(hidden, states[len(ids) - 1 :], atol=1e-5, rtol=0)


def test_a_shared_prompt_goes_through_the_model_once_and_changes_nothing(policy: Policy) -> None:
    texts = [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[0]]  # of different lengths, the group not side by side
    ids, tokens = [policy.text_ids(text) for text in texts], _tokens(policy, 4)
    positions: list[int] = []
    with torch.no_grad():
        watch = policy.ar.model.layers[0].mlp.register_forward_pre_hook(lambda _, x: positions.append(x[0].shape[1]))
        together = image_forward(policy.ar, policy.layout.image, ids, tokens)
        watch.remove()
        alone = [image_forward(policy.ar, policy.layout.image, [ids[i]], tokens[i : i + 1]) for i in range(4)]
    assert positions == [2 * max(map(len, ids)) + tokens.numel()]
    torch.testing.assert_close(together.hidden_BSD, torch.cat([one.hidden_BSD for one in alone]), atol=1e-5, rtol=0)
    torch.testing.assert_close(together.logprobs_BT, torch.cat([one.logprobs_BT for one in alone]), atol=1e-5, rtol=0)


def test_gradients_of_a_shared_prompt_are_those_of_transformers(policy: Policy) -> None:
    ids, tokens = [policy.text_ids(PROMPTS[0])] * 3, _tokens(policy, 3)
    image_forward(policy.ar, policy.layout.image, ids, tokens).logprobs_BT.sum().backward()
    found = {name: value.grad.clone() for name, value in policy.ar.named_parameters()}
    policy.ar.zero_grad()
    full = torch.cat([torch.tensor(ids), tokens], 1)
    logits = policy.ar(input_ids=full).logits[:, len(ids[0]) - 1 : -1, policy.layout.image_start_id :]
    masked = logits[..., : policy.layout.num_image_tokens].log_softmax(-1)
    masked.gather(2, (tokens - policy.layout.image_start_id)[..., None]).sum().backward()
    for name, value in policy.ar.named_parameters():
        torch.testing.assert_close(found[name], value.grad, atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_compiled_layers_compute_the_same(policy: Policy) -> None:
    ids, tokens = [policy.text_ids(p) for p in PROMPTS], _tokens(policy, 4)
    halves = LayerHalves.compiled()
    for gradient in (False, True):
        with torch.set_grad_enabled(gradient):
            plain = image_forward(policy.ar, policy.layout.image, ids, tokens)
            compiled = image_forward(policy.ar, policy.layout.image, ids, tokens, halves=halves)
        torch.testing.assert_close(compiled.logprobs_BT, plain.logprobs_BT, atol=1e-5, rtol=0)
    with torch.no_grad():
        before = policy.decoder.paint(plain.hidden_BSD, [1, 2, 3, 4], steps=2)
        policy.decoder.compile_networks()
        for count in (4, 3):  # one compilation for all numbers of pictures
            after = policy.decoder.paint(plain.hidden_BSD[:count], [1, 2, 3, 4][:count], steps=2)
            assert np.abs(after.astype(int) - before[:count].astype(int)).max() <= 1


def test_chunking_changes_nothing(policy: Policy) -> None:
    ids, tokens = [policy.text_ids(p) for p in PROMPTS], _tokens(policy, 4)
    with torch.no_grad():
        whole = image_forward(policy.ar, policy.layout.image, ids, tokens, chunk=10_000)
        parts = image_forward(policy.ar, policy.layout.image, ids, tokens, chunk=7)
    torch.testing.assert_close(whole.logprobs_BT, parts.logprobs_BT, atol=1e-6, rtol=0)


def test_a_picture_alone_equals_the_picture_in_a_batch(policy: Policy) -> None:
    ids, tokens = [policy.text_ids(p) for p in PROMPTS], _tokens(policy, 4)
    seeds = [11, 12, 13, 14]
    with torch.no_grad():
        together = policy.decoder.paint(
            image_forward(policy.ar, policy.layout.image, ids, tokens).hidden_BSD, seeds, steps=3
        )
        for row in range(4):
            hidden = image_forward(policy.ar, policy.layout.image, [ids[row]], tokens[row : row + 1]).hidden_BSD
            alone = policy.decoder.paint(hidden, [seeds[row]], steps=3)[0]
            assert np.abs(alone.astype(int) - together[row].astype(int)).max() <= 1  # float noise at a rounding edge


def test_noise_depends_on_its_own_seed_alone(policy: Policy) -> None:
    assert torch.equal(policy.decoder.noise([3, 7])[1], policy.decoder.noise([7])[0])
    assert not torch.equal(policy.decoder.noise([3])[0], policy.decoder.noise([4])[0])


def test_guidance_starts_from_zeros_through_the_connector(policy: Policy) -> None:
    hidden = torch.randn(2, policy.layout.tokens_per_image + 1, policy.ar.config.hidden_size)
    unguided = policy.decoder.paint(hidden, [0, 1], steps=2, guidance=1.0)
    assert np.array_equal(unguided, policy.decoder.paint(hidden, [0, 1], steps=2, guidance=1.0))
    assert not np.array_equal(unguided, policy.decoder.paint(hidden, [0, 1], steps=2, guidance=4.0))
    # with zeros as the condition the two branches agree, whatever the scale
    zeros = torch.zeros_like(hidden)
    plain, guided = (policy.decoder.paint(zeros, [0, 1], steps=2, guidance=scale) for scale in (1.0, 5.0))
    assert np.abs(plain.astype(int) - guided.astype(int)).max() <= 1


def test_connector_is_the_papers() -> None:
    connector = make_connector(8, 16)
    assert [type(part) for part in connector] == [nn.Linear, nn.GELU, nn.Linear, nn.RMSNorm]
    assert connector[1].approximate == "tanh"
    assert connector[3].eps == 1e-5
    assert connector[3].weight[0].item() == pytest.approx(math.sqrt(5.5))


def test_tied_embeddings_load_and_forward(tmp_path: Path) -> None:
    policy = Policy.load(make_random(tmp_path / "tied", tied=True))
    assert policy.ar.lm_head.weight is policy.ar.model.embed_tokens.weight
    with torch.no_grad():
        found = image_forward(policy.ar, policy.layout.image, [policy.text_ids("two rings")], _tokens(policy, 1))
    assert bool(found.logprobs_BT.isfinite().all())


def test_text_vocabulary_does_not_change_the_size() -> None:
    small, large = make_ar(300, hidden_size=96, layers=1), make_ar(3000, hidden_size=96, layers=1)
    assert large.num_parameters() - small.num_parameters() == 2 * 2700 * 96


def _edit(file: str, change: Callable[[dict], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return apply


BROKEN = {
    "missing part": (lambda f: shutil.rmtree(f / "vae"), "lacks vae/config.json, vae/diffusion_pytorch_model"),
    "missing file": (lambda f: (f / "ar" / "model.safetensors").unlink(), "lacks ar/model.safetensors"),
    "no policy.json": (lambda f: (f / "policy.json").unlink(), "lacks policy.json"),
    "bad json": (lambda f: (f / "policy.json").write_text("{\n,"), "line 2 is not JSON"),
    "vocabulary": (
        _edit("ar/config.json", lambda c: c.update(vocab_size=999)),
        "vocab_size of ar is 999 but vocab_size of the layout is 209",
    ),
    "token count": (
        _edit("policy.json", lambda c: c["layout"].update(tokens_per_image=17)),
        "grid 4x4 does not hold tokens_per_image 17",
    ),
    "hidden size": (
        _edit("connector/config.json", lambda c: c.update(hidden_size=64)),
        "hidden_size of connector is 64 but hidden_size of ar is 96",
    ),
    "caption channels": (
        _edit("transformer/config.json", lambda c: c.update(caption_channels=7)),
        "caption_channels of transformer is 7",
    ),
    "codes": (
        _edit("image_tokenizer/config.json", lambda c: c.update(codes=64)),
        "codes of image_tokenizer is 64 but num_image_tokens is 128",
    ),
    "latent channels": (
        _edit("vae/config.json", lambda c: c.update(latent_channels=16)),
        "in_channels of transformer is 32 but latent_channels of vae is 16",
    ),
    "layout key": (_edit("policy.json", lambda c: c["layout"].pop("grid")), "the token layout lacks grid"),
    "condition": (_edit("policy.json", lambda c: c.update(condition="ar_hiden")), "did you mean 'ar_hidden'"),
    "template": (_edit("policy.json", lambda c: c.update(prompt_template="x")), r"prompt_template has no \{prompt\}"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_named(policy: Policy, tmp_path: Path, case: str) -> None:
    spoil, message = BROKEN[case]
    folder = tmp_path / "broken"
    shutil.copytree(policy.folder, folder)
    spoil(folder)
    with pytest.raises(UserError, match=message):
        read_policy_config(folder)


MISMATCHED: list[tuple[str, dict[str, object], str]] = [
    ("ar", {"intermediate_size": 128}, ""),
    ("ar", {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}, "11 weights are missing, first 'model.lay"),
    ("vae", {"decoder_block_out_channels": [24, 24, 48, 48, 96]}, "decoder.up_blocks"),
    ("transformer", {"num_layers": 5}, "19 weights are missing, first 'transformer_blocks.4."),
    ("transformer", {"num_layers": 3}, "19 weights are left over, first 'transformer_blocks.3."),
    ("connector", {"caption_channels": 64}, "size mismatch"),
]


@pytest.mark.parametrize(("part", "change", "reason"), MISMATCHED)
def test_weights_of_another_configuration_are_named(
    policy: Policy, tmp_path: Path, part: str, change: dict[str, object], reason: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(policy.folder, folder)
    _edit(f"{part}/config.json", lambda content: content.update(change))(folder)
    if part == "connector":
        _edit("transformer/config.json", lambda content: content.update(caption_channels=64))(folder)
    with pytest.raises(UserError) as found:
        Policy.load(folder)
    message = str(found.value)
    assert message.startswith(f"{folder / part}: its weights are not those of its config.json (")
    assert reason in message and message.endswith("; take both from one model") and "\n" not in message


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(
        UserError, match=r"there is no policy folder at 'nowhere'; give a folder or one of \['shapes'\]"
    ):
        resolve_folder("nowhere")


def test_the_folder_of_a_run_stands_for_its_policy(tmp_path: Path) -> None:
    run = tmp_path / "my run"
    (run / "policy").mkdir(parents=True)
    assert resolve_folder(run) == run  # nothing of a run: what lacks is named later
    (run / "config.yaml").touch()
    with pytest.raises(UserError) as caught:
        resolve_folder(run)
    assert str(caught.value) == (
        f"policy.path: {run} is the folder of a run that has not written its policy yet; let it end (python -m "
        f"rl.launch '{run}/config.yaml' --resume), or give a policy folder."
    )
    (run / "policy" / "policy.json").touch()
    assert resolve_folder(run) == run / "policy"
    (run / "policy.json").touch()  # a policy folder that happens to hold a config.yaml
    assert resolve_folder(run) == run


def test_an_unknown_image_tokenizer_is_named(policy: Policy, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(policy.folder, folder)
    _edit("image_tokenizer/config.json", lambda c: c.update(kind="titok"))(folder)
    with pytest.raises(
        UserError,
        match=r"image_tokenizer/config.json: kind: there is no 'titok' among the image_tokenizers, "
        r"did you mean 'ta_tok'\? \(known: patch_vq, ta_tok",
    ):
        Policy.load(folder)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("nowhere/out.png", "error: --out nowhere/out.png: there is no folder nowhere; make it, or name another\n"),
        ("out", "error: --out out: no ending is no kind of picture; write .png\n"),
    ],
)
def test_paint_looks_at_its_file_first(
    out: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from policy.paint import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["paint", "a red circle", "-o", out, "--policy", "not looked at"])
    assert main() == 2
    assert capsys.readouterr().err == said
