"""How commands load a model, and how they continue a text with it."""

from __future__ import annotations

import argparse
from typing import Any

from ..data.hub import MODELS
from ..data.pieces import whole_texts
from ..data.split import locate
from ..data.tokens import TokenData
from ..model.base import tokenizer_of
from ..model.model import Model

CALIBRATION_TOKENS = 16_384
MODEL_HELP = f"model folder, .gguf file, hub id, or built in: {', '.join(MODELS)}"


def load_model(args: argparse.Namespace, source: str) -> Model:
    """The model as --dtype, --calibration and --compute say."""
    found = {} if args.calibration is not None else {"dtype": args.dtype}
    if hasattr(args, "compute"):
        found["compute"] = args.compute
    return stored_as(Model.from_pretrained(source, **found), args)


def stored_as(model: Model, args: argparse.Namespace) -> Model:
    """The model in --dtype, rounded by --calibration; itself without."""
    if args.calibration is None:
        return model
    seq_len = min(512, model.model_config.max_positions)
    tokenizer = tokenizer_of(model)
    texts = whole_texts(locate(args.calibration, "--calibration"), tokenizer)
    data = TokenData.from_text(texts, tokenizer, seq_len, CALIBRATION_TOKENS)
    return model.astype(args.dtype, calibration=data)


def sampling(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `generate` that a command line names."""
    return {
        "max_new_tokens": args.max_tokens,
        "temperature": args.temperature,
        "top_k": args.top_k,
        "top_p": args.top_p,
        "stop": args.stop,
        "seed": args.seed,
        "cache_dtype": args.cache_dtype,
        "speculative": args.speculative,
        "draft": args.draft
        if args.draft in (None, "lookup", "linear")
        else Model.from_pretrained(args.draft),
    }
