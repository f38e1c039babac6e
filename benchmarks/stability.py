"""How much text does a score need, and does the length of its windows change the choice?

    python benchmarks/stability.py [--method kl_gate] [--tokens 16384] [--lengths 512 2048 8192] [--json FILE]

SmolLM2-135M, one probe (--probe, or aligned here on --align-tokens). Scores on recall prompts and on
Wikipedia passages that neither step 1 nor the evaluation reads, at every length, and what the first half,
quarter, .. of their windows would have said. For each: the layers, how far two halves of the windows agree
on them, and how far the hybrid is from the teacher before step 2 (held-out, windows of 512). Then how alike
the rankings of all lengths and texts are.
"""

import argparse
from pathlib import Path

import numpy as np

import hybridattn as ha
from hybridattn import diagnostics, files, hub, radlads, rankings, select

SEQ_LEN = 512  # of step 1 and of the evaluation
TEXTS = ("recall", "plain")
FORM = "| {text} | {length} | {tokens:,} | {layers} | {halves} | {kl:.4f} +- {stderr:.4f} |"


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--probe", type=Path, help="checkpoint of an aligned probe (default: align one)")
    p.add_argument("--mixer", default="window_linear", help="of that probe (default: %(default)s)")
    p.add_argument("--align-tokens", type=int, default=32_768, help="of step 1 (default: %(default)s)")
    p.add_argument("--method", default="kl_gate", help="selector (default: %(default)s)")
    p.add_argument("--tokens", type=int, default=16_384, help="scored on (default: %(default)s)")
    p.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192], help="of windows")
    p.add_argument("--eval-tokens", type=int, default=4_096, help="held out (default: %(default)s)")
    p.add_argument("--keep", type=int, default=8, help="softmax layers (default: %(default)s)")
    p.add_argument("--json", type=Path, help="write the results here")
    args = p.parse_args()
    scored = filter(select.reads_text, select.SELECTORS)
    plain = [m for m in scored if not select.takes(m, "k") and m != "smart"]
    if args.method not in plain:
        p.error(f"--method: {args.method!r} is none of {', '.join(plain)}")
    if min(args.lengths) < 2 or args.tokens < 2 * max(args.lengths):
        p.error(f"--tokens: {args.tokens} is less than two windows of {max(args.lengths)}")
    return args


def budgets(count: int) -> list[int]:
    """All sequences, half of them, a quarter, .. down to one."""
    return [count >> i for i in range(count.bit_length())]


def measure(args, probe, teacher, scores, held_out, hidden, done) -> list[dict]:
    """A row for all sequences of `scores` and for fewer of them; `done` holds the KL of sets met before."""
    rows = []
    for count in budgets(scores.num_sequences):
        part = scores.part(slice(count))
        layers = tuple(part.top(args.keep))
        if layers not in done:
            kl = ha.evaluate.kl(probe.to_hybrid(layers), teacher, held_out, teacher_hidden=hidden)
            done[layers] = {"kl": kl.kl, "stderr": kl.kl_stderr}
        firm = rankings.topk_stability(part, args.keep) if count > 1 else None
        rows.append({"sequences": count, "layers": list(layers), "stability": firm, **done[layers]})
    return rows


def main():
    args = arguments()
    teacher = ha.Model.from_pretrained("smollm2-135m")
    train, held = (ha.load_text(file) for file in hub.fetch_text())
    read = ha.TokenData.from_text(train, teacher.tokenizer, SEQ_LEN, args.align_tokens + args.tokens)
    first = args.align_tokens // SEQ_LEN
    if args.probe:
        probe = ha.Model.from_pretrained(args.probe)
    else:
        probe = radlads.align(teacher, {"kind": args.mixer}, read.take(slice(0, first)), first, 1)
    stream = read.take(slice(first, None)).tokens
    held_out = ha.TokenData.from_text(held, teacher.tokenizer, SEQ_LEN, args.eval_tokens)
    hidden = ha.evaluate.final_hidden(teacher, held_out)
    found, rows, done = {}, [], {}
    print("| text | window | tokens | layers | overlap of two halves | KL before step 2 |")
    print("| --- | ---: | ---: | --- | ---: | ---: |")
    for length in args.lengths:
        for text in TEXTS:
            starts = np.arange(args.tokens // length) * length
            plain = ha.TokenData(stream, np.stack([starts, starts + length], 1))
            data = diagnostics.scoring_text(text, teacher.tokenizer, len(starts), length, plain)
            scores = found[f"{text}, {length}"] = ha.score(probe, data, args.method)
            for row in measure(args, probe, teacher, scores, held_out, hidden, done):
                row |= {"text": text, "length": length, "tokens": row["sequences"] * length}
                rows.append(row)
                firm = row["stability"]
                shown = {**row, "layers": " ".join(map(str, row["layers"]))}
                halves = f"{firm['jaccard']:.2f} ({firm['low']:.2f} to {firm['high']:.2f})" if firm else ""
                print(FORM.format(**shown, halves=halves), flush=True)
    alike = rankings.agreement(list(found.values()), args.keep)
    for name in ("spearman", "jaccard"):
        print(f"\n| {name} | " + " | ".join(found) + " |\n| --- |" + " ---: |" * len(found))
        for label, values in zip(found, alike[name], strict=True):
            print(f"| {label} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name not in ("json", "probe")}
        scored = {
            name: {"values": s.values.tolist(), "stderr": s.stderr.tolist(), "cost": s.cost}
            for name, s in found.items()
        }
        content = {"settings": settings, "machine": ha.show_config(), "rows": rows, "scores": scored}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        files.write_sheet(args.json, content | {"agreement": alike})


if __name__ == "__main__":
    main()
