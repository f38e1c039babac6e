"""Does held-out KL of the all-linear model fall with the tokens of step 1? For both linear mixers.

    python benchmarks/align_curve.py [--tokens 32768] [--json FILE]

SmolLM2-135M on Wikipedia passages (fetched on first use), read at 512 and 2048 tokens. One cosine schedule
for each budget would train a new probe each time; here one run is read at several points of its schedule,
which understates the points before the last.
"""

import argparse
import json
import time

import numpy as np

import hybridattn as ha
from hybridattn import hub, radlads, schedules

MIXERS = ("window_linear", "gated_delta")
SEQ_LEN, LENGTHS, POINTS = 1024, (512, 2048), 3


def curve(teacher, kind, train, held_out, tokens):
    """List of {tokens, kl_512, kl_2048, loss, tokens_per_second}; the first is the start, before any step."""
    probe = teacher.to_probe({"kind": kind})
    steps = tokens // SEQ_LEN
    rate = schedules.cosine(steps, radlads.align_lr(kind), 1e-5)
    lr = schedules.combine(rate, schedules.constant(steps, 0.0))
    trainer = ha.Distiller(probe, None, "align")
    windows = train.batches(steps, 1, seed=0)
    hidden = {length: ha.evaluate.final_hidden(teacher, data) for length, data in held_out.items()}
    points, seconds, loss = [], 0.0, None
    for stop in np.linspace(0, steps, POINTS + 1).astype(int):
        start = trainer.step
        if stop > start:
            began = time.monotonic()
            loss = float(trainer.run(train.tokens, windows, lr, start, int(stop)).mean())
            seconds = (time.monotonic() - began) / (stop - start)
        speed = SEQ_LEN / seconds if seconds else None
        point = {"tokens": int(stop) * SEQ_LEN, "loss": loss, "tokens_per_second": speed}
        for length, data in held_out.items():
            found = ha.evaluate.kl(probe.to_hybrid([]), teacher, data, teacher_hidden=hidden[length])
            point[f"kl_{length}"], point[f"kl_{length}_stderr"] = found.kl, found.kl_stderr
        points.append(point)
        print(kind, " ".join(f"{k}={v:.4g}" for k, v in point.items() if v is not None), flush=True)
    return points


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=32_768, help="tokens of step 1 for each mixer")
    parser.add_argument("--json", help="write the points here")
    args = parser.parse_args()
    teacher = ha.Model.from_pretrained("smollm2-135m")
    train_file, heldout_file = hub.fetch_text()
    train = ha.TokenData.from_text(ha.load_text(train_file), teacher.tokenizer, SEQ_LEN, args.tokens)
    texts = ha.load_text(heldout_file)
    held_out = {n: ha.TokenData.from_text(texts, teacher.tokenizer, n, 4_096) for n in LENGTHS}
    result = {kind: curve(teacher, kind, train, held_out, args.tokens) for kind in MIXERS}
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"seq_len": SEQ_LEN, "machine": ha.show_config(), "points": result}, file, indent=1)


if __name__ == "__main__":
    main()
