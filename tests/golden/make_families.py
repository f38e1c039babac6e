"""Writes golden/families: `python tests/golden/make_families.py [NAME ...]`, with torch and transformers.

For each family a random model of a few thousand weights as transformers writes it, and its logits and hidden
states in float32.
"""

from __future__ import annotations

import sys

import numpy as np
import recipe
import torch
from recipe import FAMILIES, FAMILY_MODELS, tokens
from transformers import AutoConfig, AutoModelForCausalLM


def write(name: str) -> None:
    folder = FAMILY_MODELS / name
    settings = dict(FAMILIES[name])
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    with torch.no_grad():
        for parameter, value in recipe.random_weights(shapes, seed=len(name)).items():
            model.get_parameter(parameter).copy_(torch.from_numpy(value))
        model.eval().save_pretrained(folder)
        ids = tokens(FAMILIES[name], (2, 40), seed=3)
        out = model(torch.from_numpy(ids).long(), output_hidden_states=True)
    # transformers applies the final norm to the last of these
    np.savez_compressed(
        folder / "golden.npz",
        logits=out.logits.numpy().astype(np.float32),
        hidden=out.hidden_states[-1].numpy().astype(np.float32),
    )
    (folder / "generation_config.json").unlink(missing_ok=True)
    print(name, sum(p.numel() for p in model.parameters()), "parameters")


if __name__ == "__main__":
    for family in sys.argv[1:] or FAMILIES:
        write(family)
