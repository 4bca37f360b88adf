"""Eyes for a decoder that has none: it sees what is to be changed, and has yet to learn what to do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import SanaTransformer2DModel
from torch import nn

from policy.ar.loading import make_connector
from policy.base import Policy
from policy.conditions import ATTENDED, BESIDE_NOISE, CHANNELS, WAYS, check_fits
from policy.convert.out_folder import new_folder
from policy.decoder import Decoder
from policy.folder import resolve_folder
from policy.json_file import read_json
from policy.pictures.reference import ReferenceLatents
from rl.registry import did_you_mean
from rl.types import UserError


def with_references(policy: Policy, ways: Sequence[str] = (CHANNELS,)) -> Policy:
    """The same policy with a decoder that sees references in these ``ways``.

    What is new is zeros: as channels of the noise a reference changes nothing before it is learnt from; where it is
    attended to, its vectors are zeros, as for guidance. Pictures without a reference are what they were.
    """
    old = policy.decoder
    if old.reference is not None:
        raise ValueError(f"this decoder sees references already: {', '.join(old.reference.ways)}")
    last, latent_channels = old.connector[2], int(old.vae.config.latent_channels)
    assert isinstance(last, nn.Linear)  # Linear - GELU - Linear - RMSNorm
    where = next(old.connector.parameters())
    connector = None
    if ATTENDED in ways:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            connector = make_connector(latent_channels, last.out_features).to(where.device, where.dtype)
        nn.init.zeros_(connector[3].get_parameter("weight"))
        connector.requires_grad_(False)
    reference = ReferenceLatents(connector, beside_noise=BESIDE_NOISE in ways, channels=CHANNELS in ways)
    transformer = _with_channels(old.transformer, latent_channels) if CHANNELS in ways else old.transformer
    return replace(policy, decoder=Decoder(old.connector, transformer, old.vae, old.scheduler, reference).eval())


def _with_channels(old: SanaTransformer2DModel, more: int) -> SanaTransformer2DModel:
    """With weights of zero for what stands in the channels behind the noise's."""
    layer = old.patch_embed.proj
    weight = torch.cat([layer.weight.data, layer.weight.data.new_zeros(len(layer.weight), more, *layer.kernel_size)], 1)
    state = {name: value.clone() for name, value in old.state_dict().items()} | {"patch_embed.proj.weight": weight}
    channels = {"in_channels": layer.in_channels + more, "out_channels": layer.in_channels}
    found = SanaTransformer2DModel.from_config({**old.config, **channels})
    found.load_state_dict(state, assign=True)
    return found.to(weight.device).requires_grad_(False)


def write_seeing(policy: str, out: Path, ways: Sequence[str]) -> None:
    """Raises: UserError if there is no such way, the transformer can't have it, or the decoder sees already."""
    for name in ways:
        if name not in WAYS:
            raise UserError(f"--ways: there is no {name!r}{did_you_mean(name, WAYS)} (known: {', '.join(WAYS)})")
    folder = resolve_folder(policy)
    check_fits(ways, read_json(folder / "transformer" / "config.json"), "--ways")
    stored = read_json(folder / "ar" / "config.json")
    given = Policy.load(folder, str(stored.get("dtype") or stored.get("torch_dtype") or "float32"))
    if given.decoder.reference is not None:
        seen = ", ".join(given.decoder.reference.ways)
        raise UserError(f"the decoder of {policy} sees references already ({seen}); train it as it is.")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with new_folder(out, size) as unfinished:
        with_references(given, ways).save(unfinished)
