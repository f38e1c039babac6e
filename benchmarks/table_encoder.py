"""The table of an encoder: fine-tuned teachers, and their hybrids chosen in different ways.

    python benchmarks/table_encoder.py [--out build/table_encoder] [--sst2 FILE.tsv] [--softmax 3]

all-MiniLM-L6-v2 with a fresh head for each task: SST-2 where GLUE's training file of it is given, sentences
of film reviews, answers to Disfl-QA as spans. For each: the teacher is fine-tuned; step 1 aligns a linear
mixer in every layer on the training sequences without their labels; layers are scored by the KL between the
teacher's predictions and the hybrid's; every hybrid is distilled on those predictions with the same steps.
GLUE-style and SQuAD-style: official validation and test sets are not used. A diagnostic has to be
answered in tokens, so an encoder has no such row. Every finished row is a JSON file in --out and is not done
again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from encoder_tasks import Sentences, Spans
from kept import same_settings

import hybridattn as ha
from hybridattn import files, plan, select, tasks

ROWS = ("teacher", "uniform", "random", "mse", "kl_gate", "kl_replace", "all-linear")
HYBRIDS = ROWS[1:-1]


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument(
        "--out", type=Path, default=Path("build/table_encoder"), help="results (default: %(default)s)"
    )
    p.add_argument("--sst2", type=Path, help="GLUE's training file of SST-2")
    p.add_argument("--mixer", default="linear", help="kind of linear mixer (default: %(default)s)")
    p.add_argument("--softmax", type=int, default=3, help="softmax layers of the hybrids")
    p.add_argument("--train", type=int, default=10_000, help="sequences to fine-tune on, at most")
    p.add_argument("--held", type=int, default=1_500, help="sequences held out, at most")
    p.add_argument("--lr", type=float, default=1e-4, help="of fine-tuning")
    p.add_argument("--align-steps", type=int, default=150)
    p.add_argument("--distill-steps", type=int, default=100)
    p.add_argument("--distill-lr", type=float, default=1e-5, help="of mixers; the rest learns at a tenth")
    p.add_argument("--score", type=int, default=384, help="sequences to score on")
    return p.parse_args()


class Lab:
    """The fine-tuned teacher of a task, its probe and its data."""

    def __init__(self, args, task) -> None:
        self.args, self.task, self.out = args, task, args.out / task.name
        base = ha.Model.from_pretrained("minilm-l6")
        self.train, self.held = task.examples(base.tokenizer)
        self.teacher = self._kept("teacher", lambda: self._teacher(base))
        self.probe = self._kept("probe", self._probe)
        self.scored = self.train.take(slice(0, args.score)).data

    def _kept(self, name: str, make):
        folder = self.out / name
        if not (folder / "config.json").exists():
            make().save_pretrained(folder)
        return ha.Model.from_pretrained(folder)

    def _teacher(self, base):
        model, task = tasks.add_head(base, **self.task.head), self.task
        tasks.finetune(model, self.train, epochs=task.epochs, batch_size=task.batch, lr=self.args.lr)
        return model

    def _probe(self):
        spec, steps = {"kind": self.args.mixer}, round(self.task.share * self.args.align_steps)
        return ha.align(self.teacher, spec, self.train.data, steps, self.task.batch)

    def layers(self, row: str) -> list[int]:
        if row in ("teacher", "all-linear"):
            return list(range(len(self.probe.layers))) if row == "teacher" else []
        data = self.scored if select.reads_text(row) else None
        return list(plan.make(select.score(self.probe, data, row), k=self.args.softmax).softmax_layers)

    def measure(self, row: str, teacher: dict) -> dict:
        args, began = self.args, time.monotonic()
        layers = self.layers(row)
        found: dict = {"row": row, "layers": layers, "score_seconds": time.monotonic() - began}
        same = next((m for m in HYBRIDS if m != row and self._has(m, layers)), None)
        if row in HYBRIDS and same:  # another way to the same set
            known = json.loads((self.out / f"{same}.json").read_text())
            return known | found
        model = self.teacher if row == "teacher" else self.probe.to_hybrid(layers)
        found["parameters"] = int(model.num_parameters)
        if row != "teacher":
            found["before"] = self.quality(model, teacher)
            steps = round(self.task.share * args.distill_steps)
            rates = {"lr_mixers": args.distill_lr, "lr_rest": args.distill_lr / 10.0}
            ha.distill(model, self.teacher, self.train.data, steps, self.task.batch, **rates)
        return found | self.quality(model, teacher)

    def _has(self, row: str, layers: list[int]) -> bool:
        path = self.out / f"{row}.json"
        return path.exists() and json.loads(path.read_text())["layers"] == layers

    def quality(self, model, teacher: dict) -> dict:
        """Scores, with intervals of them and of the difference to the teacher; KL from the teacher."""
        scores, predictions = self.task.judge(model, self.held, teacher.get("predictions"))
        kl = ha.evaluate.kl(model, self.teacher, self.held.data)
        return {"scores": scores, "kl": kl.kl, "kl_stderr": kl.kl_stderr, "predictions": predictions}

    def seconds(self, row: str, layers: list[int], length: int = 512) -> float:
        """Of one sequence as long as the positions, the median of 9."""
        model = self.teacher if row == "teacher" else self.probe.to_hybrid(layers)
        tokens, times = [np.random.default_rng(0).integers(1000, 30_000, length).astype(np.int32)], []
        for _ in range(10):
            began = time.perf_counter()
            tasks.predict(model, tokens)
            times.append(time.perf_counter() - began)
        return statistics.median(times[1:])


def run(args, task) -> dict:
    """All rows of one task."""
    lab, rows = Lab(args, task), {}
    for name in ROWS:
        path = lab.out / f"{name}.json"
        if not path.exists():
            made = lab.measure(name, rows.get("teacher", {}))
            files.atomic_write(path, json.dumps(made, indent=1) + "\n")
        rows[name] = json.loads(path.read_text())
        shown = ", ".join(f"{what} {rows[name]['scores'][what]:.1f}" for what in task.shown)
        print(f"{task.name}, {name}: {rows[name]['layers']}, {shown}, KL {rows[name]['kl']:.4f}", flush=True)
    path = lab.out / "seconds.json"
    if not path.exists():
        kinds = {name: rows[name]["layers"] for name in ("teacher", "kl_gate", "all-linear")}
        took = {name: lab.seconds(name, layers) for name, layers in kinds.items()}
        files.atomic_write(path, json.dumps(took, indent=1) + "\n")
    for row in rows.values():
        for part in (row, row.get("before", {})):
            part.pop("predictions", None)
    return {"rows": rows, "seconds": json.loads(path.read_text()), "shown": list(task.shown)}


def table(found: dict) -> str:
    """Markdown: a row for each way of choosing and each task."""
    heads = ["task", "layers chosen by", "softmax layers", "before step 2", "after", "less the teacher's"]
    heads += ["KL before", "KL after", "time at 512"]
    lines = ["| " + " | ".join(heads) + " |", "| --- | --- | --- |" + " ---: |" * (len(heads) - 3)]
    for task, part in found.items():
        for name, row in part["rows"].items():
            scores, before, shown = row["scores"], row.get("before"), part["shown"]
            cells = [task, name, " ".join(map(str, row["layers"])) or "none"]
            cells.append(", ".join(f"{before['scores'][what]:.1f}" for what in shown) if before else "")
            cells.append(", ".join(interval(scores, what) for what in shown))
            cells.append(
                ", ".join(interval(scores, f"{what}_difference", "+") for what in shown) if before else ""
            )
            both = (before, row) if before else ()
            cells += [f"{each['kl']:.4f} +- {each['kl_stderr']:.4f}" for each in both] or ["", "0"]
            took = part["seconds"][name if name in part["seconds"] else "kl_gate"]
            cells.append(f"{took / part['seconds']['teacher']:.2f}x")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def interval(scores: dict, name: str, sign: str = "") -> str:
    low, high = scores[f"{name}_interval"]
    return f"{scores[name]:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def main():
    args = arguments()
    settings = {k: v.name if isinstance(v, Path) else v for k, v in vars(args).items() if k != "out"}
    same_settings(args.out, settings)
    asked = [Sentences.sst2(args.sst2, args.train, args.held)] if args.sst2 else []
    asked += [Sentences.movie_reviews(args.train, args.held), Spans(args.train, args.held)]
    found = {task.name: run(args, task) for task in asked}
    whole = {"machine": ha.show_config(), "settings": settings, "tasks": found}
    files.atomic_write(args.out / "table.json", json.dumps(whole, indent=1) + "\n")
    files.atomic_write(args.out / "table.md", table(found) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
