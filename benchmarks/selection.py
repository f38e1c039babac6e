"""Which way of choosing softmax layers gives the best hybrid? Every selector, the same step 2 for all.

    python benchmarks/selection.py --estimate                      # what it would take, nothing is run
    python benchmarks/selection.py --stage score                   # scores and sets
    python benchmarks/selection.py --stage zero-shot               # and the hybrids before step 2
    python benchmarks/selection.py                                 # and after it: everything
    python benchmarks/selection.py --stage tables                  # of what is there
    python benchmarks/selection.py --correlations                  # what cheap scores predict

SmolLM2-135M on Wikipedia passages (fetched on first use). A finished piece of work is a JSON file in
--out (one for each score, one for each set before step 2, one for each set and seed after it) and is not
done again; several processes may share --out and its work (OMP_NUM_THREADS=1 for each is faster than one
with all). A set is distilled once, whichever selectors and seeds agree on it, but for those of --every-seed,
which tell how much the order of step 2's text matters. Tables, results.json and charts are made of whatever
is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import selection_tables as tables

import hybridattn as ha
from hybridattn import diagnostics, files, hub, plan, radlads, select
from hybridattn.errors import LockedError
from hybridattn.locks import locked
from hybridattn.radlads.teacher import final_hidden

SEQ_LEN = 512
TEXTS = ("recall", "plain")
COSTLY = ("kl_greedy_add", "kl_greedy_remove", "kl_joint", "kl_restore_distilled")
SEARCHED = 8  # softmax layers that a search finds
SCORED_AS = {"smart": "kl_restore"}  # another rule for the set, the same scores: read once
STAGES = ("tables", "score", "zero-shot", "distilled")


@dataclass(frozen=True)
class Choice:
    """One selector at work: on which text, from which seed, for how many layers."""

    method: str
    text: str  # "" for methods that read none
    seed: int
    k: int

    @property
    def label(self) -> str:
        return f"{self.method}, {self.text}" if self.text else self.method


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path, default=Path("build/selection"), help="results (default: %(default)s)")
    p.add_argument("--mixer", default="window_linear", help="kind of linear mixer (default: %(default)s)")
    p.add_argument("--methods", nargs="*", default=list(select.SELECTORS), help="selectors (default: all)")
    p.add_argument("--budgets", type=int, nargs="*", default=[4, 8, 15], help="softmax layers")
    p.add_argument("--texts", nargs="*", default=list(TEXTS), choices=TEXTS, help="what scores are read on")
    p.add_argument("--seeds", type=int, default=3, help="of text and step 2 (default: %(default)s)")
    p.add_argument("--tokens", type=int, default=16_384, help="of step 2, each set (default: %(default)s)")
    p.add_argument("--align-tokens", type=int, default=32_768, help="of step 1 (default: %(default)s)")
    p.add_argument("--score-tokens", type=int, default=4_096, help="scored on (default: %(default)s)")
    p.add_argument("--eval-tokens", type=int, default=8_192, help="held out (default: %(default)s)")
    p.add_argument("--lengths", type=int, nargs="*", default=[512, 2048], help="windows of evaluation")
    p.add_argument("--tasks", nargs="*", default=["associative_recall", "needle"], help="recall tasks")
    p.add_argument("--recall-n", type=int, default=32, help="examples of a task (default: %(default)s)")
    p.add_argument("--rungs", type=int, nargs="*", default=[4, 8], help="steps of kl_restore_distilled")
    always = ["uniform", "first_last", "kl_replace"]
    p.add_argument("--every-seed", nargs="*", default=always, help="see above (default: %(default)s)")
    p.add_argument("--distilled-seeds", type=int, help="of sets that take step 2 (default: --seeds)")
    p.add_argument("--stage", choices=STAGES, default="distilled", help="how far to go")
    p.add_argument("--estimate", action="store_true", help="print the estimate and stop")
    p.add_argument("--correlations", action="store_true", help="print what scores predict and stop")
    p.add_argument("--forward-speed", type=float, default=600, help="tokens/s, for the estimate")
    p.add_argument("--step2-speed", type=float, default=124, help="tokens/s, for the estimate")
    args = p.parse_args()
    for option, methods in (("--methods", args.methods), ("--every-seed", args.every_seed)):
        for method in methods:
            if method not in select.SELECTORS:
                p.error(f"{option}: {method!r} is none of {', '.join(select.SELECTORS)}")
    if args.distilled_seeds is None:
        args.distilled_seeds = args.seeds
    return args


def choices(args) -> list[Choice]:
    """Everything to compare. A diagnostic selector makes its own prompts, so it does not vary by text; what
    costs ten times as much as the others reads the first text from the first seed alone.
    """
    found = []
    for method in args.methods:
        reads = select.reads_text(method)
        texts = args.texts if reads and not method.startswith("diagnostic:") else ("",)
        seeds = range(args.seeds)
        if method in COSTLY:
            texts, seeds = texts[:1], range(1)
        found += [Choice(method, t, s, k) for t in texts for s in seeds for k in args.budgets]
    return found


def score_size(method: str, k: int, args) -> int | None:
    """For which k a method runs when a set of k is wanted: searches that nest run once for all budgets."""
    if not select.takes(method, "k"):
        return None
    if method in ("kl_greedy_add", "kl_restore_distilled"):
        return SEARCHED  # a larger set goes on with what the other layers are worth beside this one
    return min(args.budgets) if method == "kl_greedy_remove" else k


class Lab:
    """Teacher, probe and texts, loaded when first needed."""

    def __init__(self, args) -> None:
        self.args = args
        self.teacher = ha.Model.from_pretrained("smollm2-135m")
        train_file, heldout_file = hub.fetch_text()
        scored = args.score_tokens * args.seeds
        rung = max(args.rungs, default=0) * SEQ_LEN
        wanted = args.align_tokens + scored + max(args.tokens, rung)
        text = ha.TokenData.from_text(ha.load_text(train_file), self.teacher.tokenizer, SEQ_LEN, wanted)
        cut = [args.align_tokens // SEQ_LEN, (args.align_tokens + scored) // SEQ_LEN]
        self.align_text = text.take(slice(0, cut[0]))
        self.score_text = text.take(slice(cut[0], cut[1]))
        self.train_text = text.take(slice(cut[1], None))
        held = ha.load_text(heldout_file)
        self.heldout = {
            n: ha.TokenData.from_text(held, self.teacher.tokenizer, n, args.eval_tokens) for n in args.lengths
        }
        self.hidden = {n: final_hidden(self.teacher, data) for n, data in self.heldout.items()}
        self.probe = self._probe()

    def _probe(self):
        rate = radlads.align_lr(self.args.mixer)
        folder = self.args.out / f"probe-{self.args.mixer}-{self.args.align_tokens}-{rate:g}"
        with locked(f"{folder}.lock", wait=True):
            if not (folder / "config.json").exists():
                steps = max(1, self.args.align_tokens // SEQ_LEN)
                probe = radlads.align(self.teacher, {"kind": self.args.mixer}, self.align_text, steps, 1)
                probe.save_pretrained(folder)
        return ha.Model.from_pretrained(folder)

    def text(self, kind: str, seed: int):
        """Scoring text of a seed."""
        count = self.args.score_tokens // SEQ_LEN
        plain = self.score_text.take(slice(seed * count, (seed + 1) * count))
        return diagnostics.scoring_text(kind or "plain", self.teacher.tokenizer, count, SEQ_LEN, plain, seed)

    def evaluate(self, model, trained: bool) -> dict:
        """Held-out KL and perplexity at every length, recall of every task; before step 2 one length's KL."""
        found: dict = {"lengths": {}, "recall": {}}
        for length in self.args.lengths if trained else self.args.lengths[:1]:
            data = self.heldout[length]
            kl = ha.evaluate.kl(model, self.teacher, data, teacher_hidden=self.hidden[length])
            found["lengths"][str(length)] = {
                "kl": kl.kl,
                "ppl": kl.perplexity,
                "per_sequence": kl.per_sequence,
            }
        for task in self.args.tasks if trained else ():
            found["recall"][task] = ha.evaluate.recall(
                model, task, n=self.args.recall_n, seq_len=SEQ_LEN
            ).to_dict()
        return found

    def distill(self, layers, seed: int):
        hybrid, steps = self.probe.to_hybrid(layers), max(1, self.args.tokens // SEQ_LEN)
        radlads.distill(
            hybrid,
            self.teacher,
            self.train_text.take(slice(0, steps)),
            steps,
            1,
            seed=seed,
            cache_teacher=self.args.out / "teacher.npy",
        )
        return hybrid


def done(path: Path, make, settings: dict) -> dict:
    """The JSON at `path`, made when it is not there or was made with other settings."""
    with locked(f"{path}.lock"):
        if path.exists():
            content = json.loads(path.read_text())
            if content.get("settings") == settings:
                return content
        content = {"settings": settings, **make()}
        files.atomic_write(path, json.dumps(content, indent=1) + "\n")
    return content


def in_turn(pieces, work) -> dict:
    """{piece: work(piece)}; what another process is at comes last, when that one is done with it."""
    pieces = list(dict.fromkeys(pieces))
    found, left = {}, pieces
    while left:
        busy = []
        for piece in left:
            try:
                found[piece] = work(piece)
            except LockedError:
                busy.append(piece)
        if len(busy) == len(left):
            time.sleep(2)
        left = busy
    return {piece: found[piece] for piece in pieces}


def scores_of(lab: Lab, choice: Choice):
    """The layer scores that a choice is made of."""
    args, method = lab.args, choice.method
    if method in SCORED_AS:
        return replace(scores_of(lab, replace(choice, method=SCORED_AS[method])), method=method)
    size = score_size(method, choice.k, args)
    shared = [args.mixer, args.align_tokens, radlads.align_lr(args.mixer), args.score_tokens]
    if select.takes(method, "train"):  # the text of step 2 begins behind what all seeds are scored on
        shared += [args.rungs, args.seeds]
    key = hashlib.blake2b(json.dumps(shared).encode(), digest_size=4).hexdigest()
    name = "-".join(
        str(part) for part in (method, choice.text, choice.seed, size, key) if part not in ("", None)
    )
    path = args.out / "scores" / f"{name}.json"
    with locked(f"{path}.lock"):
        if not path.exists():
            data = lab.text(choice.text, choice.seed) if select.reads_text(method) else None
            options = {}
            if select.takes(method, "train"):
                text = lab.train_text.take(slice(0, max(args.rungs)))
                options = {"train": text, "steps": args.rungs, "folder": args.out / "candidates" / name}
            if select.takes(method, "swaps"):
                options["swaps"] = 0  # exchanges would break the nesting that one run for all budgets needs
            select.score(lab.probe, data, method, seed=choice.seed, k=size, **options).save(path)
        return select.LayerScores.load(path)


def set_name(layers) -> str:
    return "-".join(map(str, layers)) or "none"


def estimate(args, sets: int | None = None) -> list[str]:
    """Lines of what is to be done, in hours; before the sets are known, their largest number."""
    layers = 30
    runs = {
        (SCORED_AS.get(c.method, c.method), c.text, c.seed, score_size(c.method, c.k, args))
        for c in choices(args)
    }
    reading = (
        sum(select.expected_forwards(m, layers, size or 8) for m, _, _, size in runs) * args.score_tokens
    )
    probes = sum(
        (layers + 1 if i == 0 else (layers + max(args.budgets)) // 2 + 1) * steps * SEQ_LEN
        for (m, *_) in runs
        if m == "kl_restore_distilled"
        for i, steps in enumerate(args.rungs)
    )
    at_most = sets if sets is not None else len(choices(args))
    answers = args.recall_n * SEQ_LEN * 2 * len(args.tasks)
    reads = 1.3 * args.eval_tokens * len(args.lengths) + answers
    hours = {
        "score, reading": reading / args.forward_speed / 3600,
        "score, candidates of kl_restore_distilled": probes / args.step2_speed / 3600,
        f"zero-shot, {at_most} sets": at_most * reads / args.forward_speed / 3600,
        f"distilled, {at_most} sets": at_most
        * (args.tokens / args.step2_speed + reads / args.forward_speed)
        / 3600,
    }
    kind = "" if sets is not None else ", at most (sets that agree are distilled once)"
    lines = [
        f"estimate{kind}, at {args.forward_speed:g} tokens/s forward and {args.step2_speed:g} in step 2:"
    ]
    return lines + [f"  {name}: {value:.1f} h" for name, value in hours.items()]


def main():
    args = arguments()
    print("\n".join(estimate(args)), flush=True)
    if args.estimate:
        return
    lab = Lab(args)
    rows = []
    for choice, scores in in_turn(choices(args), lambda choice: scores_of(lab, choice)).items():
        made = plan.make(scores, k=choice.k)
        rows.append({"choice": choice, "scores": scores, "layers": made.softmax_layers})
    for row in rows:
        row["order"] = min(other["choice"].seed for other in rows if other["layers"] == row["layers"])
    sets = {(row["layers"], row["order"]) for row in rows}
    sets |= {(row["layers"], row["choice"].seed) for row in rows if row["choice"].method in args.every_seed}
    pooled = tables.pooled(rows)
    print("\n".join(estimate(args, len(sets))), flush=True)
    shared = {
        "mixer": args.mixer,
        "align_tokens": args.align_tokens,
        "align_lr": radlads.align_lr(args.mixer),
        "eval_tokens": args.eval_tokens,
        "lengths": args.lengths,
        "tasks": args.tasks,
        "recall_n": args.recall_n,
    }
    # text of step 2 begins behind what was scored on
    trained = {**shared, "tokens": args.tokens, "skipped": args.score_tokens * args.seeds}
    results = {}
    if args.stage in ("zero-shot", "distilled") and not args.correlations:

        def before(piece):
            path = args.out / "zero-shot" / f"{set_name(piece[0])}.json"
            found = done(path, lambda: lab.evaluate(lab.probe.to_hybrid(piece[0]), False), shared)
            print("zero-shot", set_name(piece[0]), flush=True)
            return found

        every = {layers for layers, _ in sets} | {tuple(p["layers"]) for p in pooled}
        results |= in_turn([(layers, None) for layers in sorted(every)], before)
    if args.stage == "distilled" and not args.correlations:

        def after(piece):
            layers, seed = piece
            path = args.out / "distilled" / f"{set_name(layers)}-seed{seed}.json"
            own = {**trained, "seed": seed}
            found = done(path, lambda: lab.evaluate(lab.distill(layers, seed), True), own)
            print("distilled", set_name(layers), seed, flush=True)
            return found

        trained_sets = [s for s in sets if s[1] < args.distilled_seeds]
        results |= in_turn(sorted(trained_sets, key=lambda s: (abs(len(s[0]) - 8), s)), after)  # middle first
    if args.correlations or args.stage == "tables":
        results = tables.found(args.out, sets | {(tuple(p["layers"]), 0) for p in pooled}, shared, trained)
    if args.correlations:
        print(tables.correlations(rows, results, args))
        return
    print(tables.markdown(rows, results, args))
    print(tables.pairs(rows, results, args))
    print(tables.orders(results, args))
    print(tables.agreement(pooled, results, args))
    tables.save(rows, pooled, results, args)


if __name__ == "__main__":
    main()
