"""hybridattn evaluate: perplexity, and KL from a teacher."""

from __future__ import annotations

import argparse

from .common import TEXT_HELP, Parser, apply_threads, positive, show

EXAMPLE = "hybridattn evaluate hybrid --text wikipedia --teacher smollm2-135m --tokens 8192"


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "evaluate",
        "Perplexity of a text under a model and, with --teacher, how far its predictions are from the "
        "teacher's (KL divergence, nats per token).",
        EXAMPLE,
    )
    p.add_argument("model", help="model folder, .gguf file, hub id, or smollm2-135m (built in)")
    p.add_argument(
        "--text",
        required=True,
        metavar="FILE",
        help=TEXT_HELP,
    )
    p.add_argument("--teacher", metavar="MODEL", help="the model to compare with")
    p.add_argument("--tokens", type=positive, help="stop after this many (default: all)")
    p.add_argument(
        "--seq-len", type=positive, default=512, help="tokens the model sees at once (default: %(default)s)"
    )
    p.add_argument(
        "--stride",
        type=positive,
        help="sliding window: move by this many tokens, so that each is predicted with more context",
    )
    p.add_threads()
    p.add_json()
    return p


def run(args: argparse.Namespace) -> None:
    """Evaluate and print."""
    from .. import evaluate
    from ..data import TokenData, load_text
    from ..model import Model
    from ..pipeline.texts import locate, tokenizer_of
    from ..report import numbers

    apply_threads(args)
    model = Model.from_pretrained(args.model)
    texts = load_text(locate(args.text, "--text", heldout=True))
    data = TokenData.from_text(texts, tokenizer_of(model), args.seq_len, args.tokens, keep_tail=True)
    found = evaluate.perplexity(model, data, stride=args.stride)
    result = {
        "model": args.model,
        "tokens": int(found["tokens"]),
        "seq_len": args.seq_len,
        "nll": float(found["nll"]),
        "perplexity": float(found["ppl"]),
    }
    rows = [["tokens", numbers.count(result["tokens"])], ["perplexity", f"{result['perplexity']:.4f}"]]
    if args.teacher:
        kl = evaluate.kl(model, Model.from_pretrained(args.teacher), data)
        result |= {
            "teacher": args.teacher,
            "kl": float(kl["mean"]),
            "kl_stderr": numbers.finite(kl["stderr"]),
        }
        rows.append(["KL from the teacher", numbers.kl(result["kl"], result["kl_stderr"])])
    show(args, result, (), rows)
