"""hybridattn evaluate: perplexity, GLUE, SQuAD and the like, and a comparison with a teacher."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from .. import evaluate
from ..data.pieces import LARGE, whole_texts
from ..data.split import locate
from ..data.tokens import TokenData
from ..model.base import tokenizer_of
from ..model.model import Model
from ..report import numbers
from . import evaluate_sets
from .common import TEXT_HELP, Parser, apply_threads, natural, positive, show, shows
from .models import MODEL_HELP, load_model

EXAMPLE = """
hybridattn evaluate hybrid --text wikipedia --teacher smollm2-135m --tokens 8192
hybridattn evaluate hybrid --glue boolq --limit 200 --teacher smollm2-135m
hybridattn evaluate hybrid --glue RTE --data glue_data --shots 4
hybridattn evaluate hybrid --squad squad_data/dev-v2.0.json --predictions out
"""
# options that belong to one kind of evaluation, and their defaults
OF_TEXT: dict[str, Any] = {"tokens": None, "seq_len": None, "stride": None, "branches": False}
OF_GLUE: dict[str, Any] = {"data": None, "split": "validation", "normalize": "none"}
OF_BOTH: dict[str, Any] = {"shots": 0, "seed": 0, "limit": None, "batch_size": 8, "predictions": None}


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "evaluate",
        "Perplexity of a text under a model, bits per byte and perplexity per word (of a text that is read "
        "whole, without --tokens) and, with --teacher, how far its predictions are from the "
        "teacher's (KL divergence, nats per token). Or a GLUE task by the likelihood of its labels' names, "
        "or written answers to the questions of a SQuAD file, with 95 percent intervals and, with --teacher, "
        "differences in pairs.",
        EXAMPLE,
    )
    p.add_argument("model", help=MODEL_HELP)
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", metavar="FILE", help=TEXT_HELP)
    what.add_argument(
        "--glue",
        metavar="TASK",
        help="CoLA, SST-2, MRPC, STS-B, QQP, MNLI, MNLI-mm, QNLI, RTE or WNLI, with --data; or GLUE-style "
        "and built in: boolq, movie_reviews, movie_ratings",
    )
    what.add_argument(
        "--squad",
        metavar="FILE",
        help="file of SQuAD 1.1 or 2.0; or built in: squad_dev, squad_new_wiki, squad_nyt, squad_reddit, "
        "squad_amazon, disfl_qa, quac",
    )
    p.add_argument("--teacher", metavar="MODEL", help="the model to compare with")
    text = p.add_argument_group("with --text")
    text.add_argument("--tokens", type=positive, help="stop after this many (default: all)")
    text.add_argument(
        "--seq-len",
        type=positive,
        help="tokens the model sees at once (default: 512, or its positions if these are fewer)",
    )
    text.add_argument(
        "--stride",
        type=positive,
        help="sliding window: move by this many tokens, so that each is predicted with more context",
    )
    text.add_argument(
        "--branches",
        action="store_true",
        default=None,  # not asked for: the other kinds of evaluation have no such option
        help="with --teacher: KL of a window_linear model without its linear part, by layer too",
    )
    glue = p.add_argument_group("with --glue")
    glue.add_argument(
        "--data",
        metavar="DIR",
        help="folder of GLUE's files, as `fetch glue` makes it; or one file of labelled rows, or its "
        "ADDRESS#sha256=DIGEST, of which a tenth is the validation split",
    )
    glue.add_argument(
        "--split", metavar="NAME", help="validation (default), train, or test, which has no labels"
    )
    glue.add_argument(
        "--normalize", choices=("none", "tokens", "bytes"), help="divide a choice's log p by its length"
    )
    both = p.add_argument_group("with --glue or --squad")
    both.add_argument("--shots", type=positive, help="answered examples before each question (default: none)")
    both.add_argument("--seed", type=natural, help="draws the shots and the intervals (default: 0)")
    both.add_argument("--limit", type=positive, help="the first so many examples (default: all)")
    both.add_argument("--batch-size", type=positive, help="prompts of one pass (default: 8)")
    both.add_argument("--predictions", metavar="DIR", help="write predictions and scores there")
    p.add_storage()
    p.add_compute()
    p.add_threads()
    p.add_json()
    return p


def run(args: argparse.Namespace) -> None:
    """Evaluate and print."""
    kind = next(name for name in ("text", "glue", "squad") if getattr(args, name) is not None)
    own = {"text": OF_TEXT, "glue": OF_GLUE | OF_BOTH, "squad": OF_BOTH}[kind]
    for name, default in (OF_TEXT | OF_GLUE | OF_BOTH).items():
        if getattr(args, name) is None:
            setattr(args, name, default)
        elif name not in own:
            parser().error(f"--{name.replace('_', '-')} does not go with --{kind}")
    if not getattr(args, kind):
        parser().error(f"--{kind} is ''; allowed: a name or a file")
    apply_threads(args)
    if kind == "text":
        _text(args)
    else:
        (evaluate_sets.glue if kind == "glue" else evaluate_sets.squad)(args, parser())


def _text(args: argparse.Namespace) -> None:
    if args.branches and not args.teacher:
        parser().error("--branches needs --teacher, the model to compare with")
    model = load_model(args, args.model)
    tokenizer = tokenizer_of(model)
    # read whole, documents are read as they are: how a tokenizer joins their parts is part of the figure
    size = LARGE if args.tokens else None
    texts = whole_texts(locate(args.text, "--text", heldout=True), tokenizer, size)
    found = evaluate.perplexity(
        model, texts, seq_len=args.seq_len, stride=args.stride, max_tokens=args.tokens, progress=shows(args)
    )
    result = {
        "model": args.model,
        "tokens": found.tokens,
        "seq_len": found.seq_len,
        "nll": found.nll,
        "perplexity": found.perplexity,
    }
    rows = [["tokens", numbers.count(found.tokens)], ["perplexity", f"{found.perplexity:.4f}"]]
    if found.bits_per_byte is not None and found.word_perplexity is not None:
        # only of a whole text: how much of it --tokens are is not counted
        result |= {"bits_per_byte": found.bits_per_byte, "word_perplexity": found.word_perplexity}
        rows.append(["bits per byte", f"{found.bits_per_byte:.4f}"])
        rows.append(["perplexity per word", f"{found.word_perplexity:.4f}"])
    if args.teacher:
        data = TokenData.from_text(texts, tokenizer, found.seq_len, args.tokens, keep_tail=True)
        teacher = Model.from_pretrained(args.teacher, compute=args.compute)
        kl = evaluate.kl(model, teacher, data, progress=shows(args))
        result |= {"teacher": args.teacher, "kl": kl.kl, "kl_stderr": numbers.finite(kl.kl_stderr)}
        result |= {"agreement": kl.agreement, "agreement_stderr": numbers.finite(kl.agreement_stderr)}
        rows.append(["KL from the teacher", numbers.kl(kl.kl, result["kl_stderr"])])
        share = numbers.share(kl.agreement, result["agreement_stderr"])
        rows.append(["same likeliest token as the teacher", share])
        if args.branches:
            parts = evaluate.branches(model, teacher, data, progress=shows(args))
            result["branches"] = asdict(parts)
            rows.append(["KL without the linear branch", numbers.kl(parts.softmax)])
            rows.append(["KL without the window", numbers.kl(parts.linear)])
            for layer, kl_off in parts.by_layer.items():
                rows.append([f"KL without layer {layer}'s linear branch", numbers.kl(kl_off)])
    show(args, result, (), rows)
