"""The policy: a language model that writes image tokens and a diffusion decoder that paints its hidden states."""
