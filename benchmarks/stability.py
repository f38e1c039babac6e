"""How much text does a score need, and does the length of its windows change the choice?

    python benchmarks/stability.py [--method kl_gate] [--tokens 16384] [--lengths 512 2048 8192] [--json FILE]

SmolLM2-135M, one probe (--probe, or aligned here on --align-tokens). Scores on recall prompts and on
Wikipedia passages of every length; for each: the set, how far two halves of the windows agree on it, what
fewer tokens would have chosen, and how alike the rankings of all lengths and texts are.
"""

import argparse
from pathlib import Path

import hybridattn as ha
from hybridattn import diagnostics, files, hub, radlads, rankings, select

ALIGN_LEN = 512
TEXTS = ("recall", "plain")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--probe", type=Path, help="checkpoint of an aligned probe (default: align one)")
    p.add_argument("--mixer", default="window_linear", help="of that probe (default: %(default)s)")
    p.add_argument("--align-tokens", type=int, default=32_768, help="of step 1 (default: %(default)s)")
    p.add_argument("--method", default="kl_gate", help="selector (default: %(default)s)")
    p.add_argument("--tokens", type=int, default=16_384, help="scored on (default: %(default)s)")
    p.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192], help="of windows")
    p.add_argument("--keep", type=int, default=8, help="softmax layers (default: %(default)s)")
    p.add_argument("--json", type=Path, help="write the results here")
    args = p.parse_args()
    plain = [
        m for m in select.SELECTORS if select.reads_text(m) and not select.takes(m, "k") and m != "smart"
    ]
    if args.method not in plain:
        p.error(f"--method: {args.method!r} is none of {', '.join(plain)}")
    if min(args.lengths) < 2 or args.tokens < 2 * max(args.lengths):
        p.error(f"--tokens: {args.tokens} is less than two windows of {max(args.lengths)}")
    return args


def halves(count: int) -> list[int]:
    """1, 2, 4, ... below count: how many sequences a cheaper score would have read."""
    return [2**i for i in range(count.bit_length()) if 2**i < count]


def line(name: str, scores, keep: int) -> str:
    """A row of the table: the set, its firmness, and the overlap with it on fewer tokens."""
    firm = rankings.topk_stability(scores, keep)
    window = scores.options["seq_len"]
    fewer = ", ".join(
        f"{part['jaccard']:.2f} on {part['sequences'] * window:,}"
        for part in rankings.by_budget(scores, keep, halves(scores.num_sequences))
    )
    layers, shared = " ".join(map(str, scores.top(keep))), f"{firm['jaccard']:.2f}"
    return f"| {name} | {layers} | {shared} ({firm['low']:.2f} to {firm['high']:.2f}) | {fewer} |"


def main():
    args = arguments()
    teacher = ha.Model.from_pretrained("smollm2-135m")
    train, held_out = (ha.load_text(file) for file in hub.fetch_text())
    if args.probe:
        probe = ha.Model.from_pretrained(args.probe)
    else:
        text = ha.TokenData.from_text(train, teacher.tokenizer, ALIGN_LEN, args.align_tokens)
        probe = radlads.align(teacher, {"kind": args.mixer}, text, args.align_tokens // ALIGN_LEN, 1)
    found = {}
    for length in args.lengths:
        count = args.tokens // length
        plain = ha.TokenData.from_text(held_out, teacher.tokenizer, length, args.tokens)
        for kind in TEXTS:
            data = diagnostics.scoring_text(kind, teacher.tokenizer, count, length, plain)
            scores = ha.score(probe, data, args.method)
            scores.options["seq_len"] = length
            found[f"{kind}, {length}"] = scores
    print("| text, window | layers | overlap of two halves (5% to 95%) | overlap with fewer tokens |")
    print("| --- | --- | --- | --- |")
    for name, scores in found.items():
        print(line(name, scores, args.keep))
    alike = rankings.agreement(list(found.values()), args.keep)
    for measure in ("spearman", "jaccard"):
        print(f"\n| {measure} | " + " | ".join(found) + " |\n| --- |" + " ---: |" * len(found))
        for name, values in zip(found, alike[measure], strict=True):
            print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    if args.json:
        rows = {
            name: {
                "layers": scores.top(args.keep),
                "values": scores.values.tolist(),
                "stderr": scores.stderr.tolist(),
                "stability": rankings.topk_stability(scores, args.keep),
                "by_budget": rankings.by_budget(scores, args.keep, halves(scores.num_sequences)),
            }
            for name, scores in found.items()
        }
        settings = {name: value for name, value in vars(args).items() if name not in ("json", "probe")}
        content = {"settings": settings, "machine": ha.show_config(), "rows": rows, "agreement": alike}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        files.write_sheet(args.json, content)


if __name__ == "__main__":
    main()
