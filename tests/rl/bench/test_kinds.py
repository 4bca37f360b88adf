from __future__ import annotations

import torch

from rl.bench.kinds import profiled_kinds


def test_products_and_attention_are_told_apart_from_copies() -> None:
    matrix, heads = torch.ones(512, 512), torch.ones(1, 4, 256, 32)
    products = profiled_kinds(lambda: [matrix @ matrix for _ in range(20)])
    attention = profiled_kinds(lambda: torch.nn.functional.scaled_dot_product_attention(heads, heads, heads))
    copies = profiled_kinds(lambda: [torch.cat([matrix, matrix]) for _ in range(20)])
    assert max(products, key=lambda kind: products[kind]) == "products and convolutions"
    assert attention["attention"] > 0
    assert copies["copies and gathers"] > copies["products and convolutions"] == 0
