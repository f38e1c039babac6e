"""The report of a run: report.md, report.html (one self-contained file) and report.json, the same numbers.

    write(results, folder) -> {"md": Path, "html": Path, "json": Path}
    load(report.json) -> results

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
        prefill {str(tokens): seconds}; decode {str(tokens before): seconds per token}: medians of the rounds;
            prefill_range, decode_range {..: [least, most]}; speed {prefill, decode {..: [median,
            least, most]}}: times the teacher's. Results of versions before these have the first two alone
        tasks: None or {when, average, glue {name: {score ..}}, squad {name: {exact, f1 ..}},
            recall {task: {accuracy ..}}}, as glue.evaluate, squad.evaluate and evaluate.recall give them
        sample {"before": text, "after": text}
    answers_only (of the text only what assistants say counts), or none
    timing {rounds, busy (share of the processors' time that others took, None: not known)}, or none
    prompt, made {seconds, stages [{name, seconds, tokens}], recipe, versions {..}, machine {..}}

Words and tables are laid out once (`document`) and rendered twice (`markdown`, `html`): they cannot differ.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import atomic_write
from ..reading import field, read_json
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


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The results in a report.json, which `write` takes again. DataError naming the file, the field and the
    version that wrote it, for one that is no such report or lacks something.
    """
    file = Path(path)
    content = read_json(file, DataError)
    made = content.get("made") if isinstance(content, dict) else None
    versions = made.get("versions") if isinstance(made, dict) else None
    writer = versions.get("hybridattn") if isinstance(versions, dict) else None
    where = f"{file}, of version {writer or 'unknown'}"
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        advice = "; open it with that version, or run the recipe again with this one" if writer else ""
        raise DataError(
            f"{where if writer else file}: no report: format is {found!r}; allowed: {FORMAT!r}{advice}"
        )
    for name, kind in _FIELDS.items():
        field(content, name, kind, where, DataError)
    for name, parts in _PARTS.items():
        rows = content[name] if isinstance(content[name], list) else [content[name]]
        for i, row in enumerate(rows):
            missing = [part for part in parts if not isinstance(row, dict) or part not in row]
            if missing:
                at = f"{name}[{i}]" if isinstance(content[name], list) else name
                raise DataError(f"{where}: {at} has no {missing[0]}; run the recipe again with this version")
    return {name: value for name, value in content.items() if name not in _MADE_ANEW}


# What a report.json has: fields and their types, and what is inside those that are objects or lists of them.
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "title": str, "teacher": dict, "mixer": dict, "lengths": dict, "chosen": dict, "scores": list,
    "additivity": (dict, type(None)), "curves": dict, "models": list, "prompt": str, "made": dict,
}  # fmt: skip
_PARTS: dict[str, tuple[str, ...]] = {
    "teacher": ("name", "source", "num_layers", "hidden_size", "parameters"),
    "lengths": ("train", "trained", "step", "all"),
    "chosen": ("method", "text", "softmax_layers"),
    "scores": ("method", "text", "values", "stderr", "all_linear_kl", "sequences", "tokens", "seconds",
               "layers", "spearman", "shared"),
    "curves": ("align", "distill"),
    "models": ("id", "softmax_layers", "before", "after", "cache", "prefill", "decode", "sample"),
    "made": ("seconds", "stages", "recipe", "versions", "machine"),
}  # fmt: skip
_MADE_ANEW = ("format", "summary", "comparisons")


def _figures(results: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    """{name: {"png": bytes, "wide": svg, "narrow": svg}}, or None when matplotlib is not installed."""
    return plots.render_all(results) if plots.available() else None
