"""Every linear mixer on one teacher: the same tokens of step 1, then held-out KL all-linear and as a hybrid.

    python benchmarks/mixers.py [--tokens 32768] [--only NAME ...] [--json build/bench/mixers.json]

SmolLM2-135M on Wikipedia passages (fetched on first use). The hybrid keeps 8 softmax layers, chosen by
`kl_gate` on recall prompts as the command line does. Each mixer is one row of the JSON, written when it is
done: a run that was stopped goes on with the missing rows; rows of other settings or rates are made again.
Prints a markdown table.
"""

import argparse
import json
from pathlib import Path

import hybridattn as ha
from hybridattn import files, hub, plan, radlads

# Options beside the defaults: one row each, under a name of its own.
VARIANTS = {
    "window_linear elu": {"kind": "window_linear", "feature": 0},
    "window_linear favor": {"kind": "window_linear", "feature": 3},
    "linear elu": {"kind": "linear", "feature": 0},
    "linear relu": {"kind": "linear", "feature": 1, "normalise": 0},
    "linear favor": {"kind": "linear", "feature": 3},
    "gated_delta conv": {"kind": "gated_delta", "conv": 4},
    "gated_delta rope": {"kind": "gated_delta", "rope": 1},
    "gated_delta low rank": {"kind": "gated_delta", "output_gate": "low_rank"},
    "gated_delta grouped": {"kind": "gated_delta", "grouped": 1},
    "gated_delta grouped low rank": {"kind": "gated_delta", "grouped": 1, "output_gate": "low_rank"},
    "gated_delta grouped no gate": {"kind": "gated_delta", "grouped": 1, "output_gate": "none"},
}
COLUMNS = (
    ("mixer", "{name}"),
    ("KL, all linear", "{kl_all_linear:.3f}"),
    ("KL, {keep} softmax", "{kl_kept:.3f}"),
    ("step 1, tok/s", "{tokens_per_second:.0f}"),
    ("state, KiB a layer", "{state_kib:.0f}"),
    ("trained weights a layer", "{weights:,}"),
)


def rows():
    """Row name -> mixer spec, over every registered kind."""
    kinds = [kind for kind, facts in ha.mixers().items() if kind != "softmax" and "causal" in facts["masks"]]
    return {kind: {"kind": kind} for kind in kinds} | VARIANTS


def measure(teacher, spec, train, held_out, hidden, prompts, steps, keep):
    """Align, choose, compare: the numbers of one row."""
    probe = radlads.align(teacher, spec, train, steps=steps, batch_size=1, progress=False)
    scores = ha.score(probe, prompts, "kl_gate", progress=False)
    kept = plan.make(scores, k=keep)
    found = {"layers": list(kept.softmax_layers), "loss": float(probe.train_result.curve[-1])}
    for name, hybrid in (("all_linear", probe.to_hybrid([])), ("kept", probe.to_hybrid(kept))):
        kl = ha.evaluate.kl(hybrid, teacher, held_out, teacher_hidden=hidden)
        found[f"kl_{name}"], found[f"kl_{name}_stderr"] = kl.kl, kl.kl_stderr
        found[f"cache_bytes_{name}"] = ha.Cache(hybrid, 1).nbytes
    found["tokens_per_second"] = probe.train_result.tokens_per_second
    found["state_kib"] = found["cache_bytes_all_linear"] / len(probe.layers) / 1024
    trained = ha.Distiller(probe, None, "align", layers=[0]).trainable()
    found["weights"] = int(sum(probe.arrays()[name].size for name in trained))
    return found


def table(result):
    """The rows so far as markdown, closest first."""
    keep = result["settings"]["keep"]
    lines = ["| " + " | ".join(title.format(keep=keep) for title, _ in COLUMNS) + " |"]
    lines.append("| --- |" + " ---: |" * (len(COLUMNS) - 1))
    for name, row in sorted(result["rows"].items(), key=lambda item: item[1]["kl_kept"]):
        lines.append("| " + " | ".join(form.format(name=name, **row) for _, form in COLUMNS) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=32_768, help="tokens of step 1 for each mixer")
    parser.add_argument("--held-out", type=int, default=8_192, help="tokens the KL is read on")
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--keep", type=int, default=8, help="softmax layers of the hybrid")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"rows to make: {', '.join(rows())}")
    parser.add_argument("--json", type=Path, default=Path("build/bench/mixers.json"))
    args = parser.parse_args()
    if unknown := set(args.only or ()) - set(rows()):
        parser.error(f"--only: {sorted(unknown)}; allowed: {', '.join(rows())}")
    settings = {"tokens": args.tokens, "held_out": args.held_out, "seq_len": args.seq_len, "keep": args.keep}
    result = {"settings": settings, "machine": ha.show_config(), "rows": {}}
    if args.json.is_file() and (old := json.loads(args.json.read_text()))["settings"] == settings:
        rates = {name: radlads.align_lr(spec["kind"]) for name, spec in rows().items()}
        result["rows"] = {name: row for name, row in old["rows"].items() if row["lr"] == rates.get(name)}
    missing = {n: s for n, s in rows().items() if n not in result["rows"] and n in (args.only or rows())}
    if missing:
        teacher = ha.Model.from_pretrained("smollm2-135m")
        train_text, held_text = (ha.load_text(file) for file in hub.fetch_text())
        train = ha.TokenData.from_text(train_text, teacher.tokenizer, args.seq_len, args.tokens)
        held_out = ha.TokenData.from_text(held_text, teacher.tokenizer, args.seq_len, args.held_out)
        prompts = ha.recall_prompts(teacher.tokenizer, 8, args.seq_len)
        hidden = ha.evaluate.final_hidden(teacher, held_out)
        steps = args.tokens // args.seq_len
    args.json.parent.mkdir(parents=True, exist_ok=True)
    for name, spec in missing.items():
        row = measure(teacher, spec, train, held_out, hidden, prompts, steps, args.keep)
        result["rows"][name] = {"spec": spec, "lr": radlads.align_lr(spec["kind"]), **row}
        files.write_sheet(args.json, result)
        print(f"{name}: KL {row['kl_all_linear']:.3f} all linear, {row['kl_kept']:.3f} kept", flush=True)
    print(table(result))


if __name__ == "__main__":
    main()
