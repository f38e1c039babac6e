"""Which learning rate suits step 1 of each mixer? What the align_rate of its ha_mixer_kind should be.

    python benchmarks/align_lr.py [--mixers gsa,kda] [--layers 3,15,27] [--rates 3e-3,1e-2] [--json FILE]

SmolLM2-135M on Wikipedia passages (fetched on first use). Layers learn apart in step 1: a few of them stand
for all. Every mixer and rate starts from the same weights, reads the same windows under one cosine schedule,
and is judged on held-out ones: mean |softmax output - linear output| over mean |softmax output|, by layer.
"""

import argparse

import numpy as np

import hybridattn as ha
from hybridattn import files, hub, radlads, schedules

SEQ_LEN = 512


def numbers(of):
    """An argument of several numbers, by commas."""

    def parse(text):
        try:
            return [of(part) for part in text.split(",")]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}, expected {of.__name__}s by commas") from None

    return parse


def residual(probe, data, layers):
    """[len(layers)]: what is left on held-out windows, as a share of the softmax output."""
    error, size = ha.KLScorer(probe).alignment(data.tokens, data.windows)
    return (error.mean(1) / size.mean(1))[layers]


def aligned(teacher, spec, rate, train, layers):
    """The probe after all of `train` once, with the given layers trained; None where the rate diverges."""
    probe = teacher.to_probe(spec)
    windows = train.batches(len(train.windows), 1, seed=0)
    steps = len(windows)
    lr = schedules.combine(schedules.cosine(steps, rate, min(rate, 1e-5)), schedules.constant(steps, 0.0))
    try:
        ha.Distiller(probe, None, "align", layers=layers).run(train.tokens, windows, lr, 0, steps)
    except ValueError as error:
        if "not finite" not in str(error):
            raise
        return None
    return probe


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    causal = [kind for kind, said in ha.mixers().items() if said["align_lr"] and "causal" in said["masks"]]
    parser.add_argument("--mixers", type=numbers(str), default=causal, help="kinds, by commas")
    parser.add_argument("--layers", type=numbers(int), default=[3, 15, 27], help="the layers that train")
    parser.add_argument("--rates", type=numbers(float), default=[1e-3, 3e-3, 6e-3, 1e-2])
    parser.add_argument("--tokens", type=int, default=16_384, help="tokens of step 1 for each mixer and rate")
    parser.add_argument("--held-out", type=int, default=4_096, help="tokens that judge")
    parser.add_argument("--json", help="write the rows here")
    args = parser.parse_args()
    if unknown := set(args.mixers) - set(causal):
        parser.error(f"--mixers: {', '.join(sorted(unknown))}; allowed: {', '.join(causal)}")
    teacher = ha.Model.from_pretrained("smollm2-135m")
    texts = [ha.load_text(file) for file in hub.fetch_text()]
    train, held_out = (
        ha.TokenData.from_text(text, teacher.tokenizer, SEQ_LEN, tokens)
        for text, tokens in zip(texts, (args.tokens, args.held_out), strict=True)
    )
    rows = []
    for kind in args.mixers:
        start = residual(teacher.to_probe({"kind": kind}), held_out, args.layers)
        for rate in args.rates:
            probe = aligned(teacher, {"kind": kind}, rate, train, args.layers)
            left = np.full(len(start), np.nan) if probe is None else residual(probe, held_out, args.layers)
            rows.append({"kind": kind, "lr": rate, "start": start.tolist(), "residual": left.tolist()})
            layers = " ".join(f"{a:.3f}->{b:.3f}" for a, b in zip(start, left, strict=True))
            used = " (now used)" if rate == radlads.align_lr(kind) else ""
            print(f"{kind:14} {rate:8.1e}  mean {left.mean():.4f}  by layer {layers}{used}", flush=True)
    if args.json:
        made = {"layers": args.layers, "tokens": args.tokens, "machine": ha.show_config(), "rows": rows}
        files.write_sheet(args.json, made)


if __name__ == "__main__":
    main()
