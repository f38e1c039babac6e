"""Tiny hybrids, and what a layout says of them."""

from __future__ import annotations

import tiny

from hybridattn import export
from hybridattn.export import registry

GATED = {"kind": "gated_delta"}
QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
QWEN3 = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 16}


def hybrid(mixer=GATED, keep=(1,), **teacher):
    return tiny.teacher(**teacher).to_probe(mixer).to_hybrid(keep)


def reasons(model, layout):
    return registry.grouped(export.fits(model)[layout])
