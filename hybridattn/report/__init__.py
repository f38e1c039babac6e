"""The report of a run: report.md, report.html (one self-contained file) and report.json, the same numbers.

    write(results, folder) -> {"md": Path, "html": Path, "json": Path}

`results` is plain data, JSON from end to end; `pipeline` makes it and report.json holds it:

    title
    teacher {name, source, weights (what they are, or ""), num_layers, hidden_size, parameters}
    mixer {kind, ..}
    lengths {train, trained, step, all: [..]}     evaluation lengths in tokens; `train`: the one quoted first;
                                   trained, step: window of the last training, step 1 or 2
    chosen {method, text (None: reads none), softmax_layers}
    scores [{method, text, values [L], stderr [L], all_linear_kl, sequences, tokens, seconds, layers [k],
             stability, spearman, shared}]
    additivity None or {all_linear_kl, sum_single_kl, gap}, nats per token
    curves {align: {tokens, loss} or None, distill: {model id: {tokens, loss}}}
    models [{id, softmax_layers, parameters, before, after, cache, prefill, decode, sample, tasks}]
        id: teacher, all-linear, uniform, random-0 .., diagnostic, chosen
        before, after (distillation): None or
            {str(length): {kl, kl_stderr, per_sequence, perplexity, tokens}}
        cache: None or {bytes_per_token, fixed_bytes}
        prefill {str(tokens): seconds}; decode {str(tokens before): seconds per token}
        tasks: None or {when, average, glue {name: {score ..}}, squad {name: {exact, f1 ..}},
            recall {task: {accuracy ..}}}, as glue.evaluate, squad.evaluate and evaluate.recall give them
        sample {"before": text, "after": text}
    prompt, made {seconds, stages [{name, seconds, tokens}], recipe, versions {..}, machine {..}}

Words and tables are laid out once (`document`) and rendered twice (`markdown`, `html`): they cannot differ.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..files import atomic_write
from . import document, html, markdown, plots, verdict
from .summary import summary

FORMAT = "hybridattn-report-1"


def write(results: dict[str, Any], folder: str | os.PathLike) -> dict[str, Path]:
    """Write the three files (and figures/*.png, which report.md shows) into `folder`; the paths by kind."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = _figures(results)
    blocks = document.build(results, charts=figures is not None)
    if figures:
        (folder / "figures").mkdir(exist_ok=True)
        for name, figure in figures.items():
            atomic_write(folder / "figures" / f"{name}.png", figure["png"])
    facts = {
        "format": FORMAT,
        **results,
        "summary": summary(results),
        "comparisons": verdict.comparisons(results),
    }
    texts = {
        "md": markdown.render(blocks, figures),
        "html": html.render(blocks, figures),
        "json": json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    paths = {kind: folder / f"report.{kind}" for kind in texts}
    for kind, path in paths.items():
        atomic_write(path, texts[kind])
    return paths


def _figures(results: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    """{name: {"png": bytes, "wide": svg, "narrow": svg}}, or None when matplotlib is not installed."""
    return plots.render_all(results) if plots.available() else None
