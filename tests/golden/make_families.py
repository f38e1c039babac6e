"""Writes golden/families: `python tests/golden/make_families.py [NAME ...]`, with torch and transformers.

For each family a random model of a few thousand weights as transformers writes it, its logits, unless it has
no head, and its hidden states in float32.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import recipe
import torch
import transformers
from recipe import FAMILIES, FAMILY_CLASSES, FAMILY_MODELS


def make(settings: dict[str, Any], auto: str, seed: int) -> Any:
    """A random model of that auto class, evaluating."""
    settings = dict(settings)
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    model = getattr(transformers, auto).from_config(config, attn_implementation="eager")
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    with torch.no_grad():
        for parameter, value in recipe.random_weights(shapes, seed).items():
            model.get_parameter(parameter).copy_(torch.from_numpy(value))
    return model.eval()


def outputs(model: Any, ids: np.ndarray, segments: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """logits, and as hidden what goes into the LM head; of a model without one its last hidden states."""
    options = {} if segments is None else {"token_type_ids": torch.from_numpy(segments).long()}
    head, seen = model.get_output_embeddings(), []
    if head is not None:
        head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        out = model(torch.from_numpy(ids).long(), **options)
    found = {"hidden": out.last_hidden_state} if head is None else {"logits": out.logits, "hidden": seen[0]}
    return {key: value.numpy().astype(np.float32) for key, value in found.items()}


def write(name: str) -> None:
    folder = FAMILY_MODELS / name
    model = make(FAMILIES[name], FAMILY_CLASSES.get(name, "AutoModelForCausalLM"), seed=len(name))
    model.save_pretrained(folder)
    np.savez_compressed(folder / "golden.npz", **outputs(model, *recipe.family_batch(name)))
    (folder / "generation_config.json").unlink(missing_ok=True)
    print(name, sum(p.numel() for p in model.parameters()), "parameters")


if __name__ == "__main__":
    for family in sys.argv[1:] or FAMILIES:
        write(family)
