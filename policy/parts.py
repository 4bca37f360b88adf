"""What files a policy folder has; ``policy.folder`` says how they belong together."""

from __future__ import annotations

CONFIG_FILE = "policy.json"
"""Token layout, prompt template, prompt encoder, the decoder's condition."""
REFERENCE_PART = "reference_connector"
"""Of a policy whose decoder attends to pictures that are to be changed; of others there is none."""
PARTS = {
    "ar": ("config.json", "model.safetensors"),
    "connector": ("config.json", "model.safetensors"),
    "transformer": ("config.json", "diffusion_pytorch_model.safetensors"),
    "vae": ("config.json", "diffusion_pytorch_model.safetensors"),
    "scheduler": ("scheduler_config.json",),
    "tokenizer": ("tokenizer.json", "tokenizer_config.json"),
    "image_tokenizer": ("config.json", "model.safetensors"),
}
"""Folder -> the files that it must hold; weights may also lie in several files with an index."""


def weights_of(part: str) -> str:
    """The name of a part's weights file."""
    return PARTS["connector" if part == REFERENCE_PART else part][-1]
