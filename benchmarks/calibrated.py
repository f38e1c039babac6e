"""How many tokens of step 1 does a calibrated start save a recurrence?

    python benchmarks/calibrated.py [--mixer gated_delta] [--budgets 8192,16384,32768,65536] --json FILE

SmolLM2-135M on Wikipedia passages (fetched on first use), windows of 512, every layer linear. A budget counts
what the calibration reads, each token once, and what step 1 trains on; every budget has a cosine schedule of
its own from the mixer's rate. KL on 4096 held-out tokens at 512 and 2048. Rows are written to FILE as they
come, and those that are there are not made again; Ctrl-C keeps a checkpoint beside FILE, from which the same
command goes on.
"""

import argparse
import json
import time
from pathlib import Path

import hybridattn as ha
from hybridattn import files, hub, radlads

SEQ_LEN, LENGTHS, HELD_OUT = 512, (512, 2048), 4_096
INITS = ("transfer", "calibrated")


def numbers(text):
    """Token budgets, by commas."""
    return [int(part) for part in text.split(",")]


def start_only(teacher, spec, init, train):
    """The probe before any step."""
    began = time.monotonic()
    data = {} if init == "transfer" else {"data": train}
    return teacher.to_probe(spec, init=init, **data), time.monotonic() - began


def aligned(teacher, spec, init, train, steps, lr, checkpoint):
    """The probe after step 1, and its seconds; a run that was interrupted counts what it did itself."""
    began = time.monotonic()
    probe = radlads.align(
        teacher, spec, train, steps=steps, batch_size=1, init=init, lr=lr, checkpoint=checkpoint,
        checkpoint_seconds=60, checkpoint_last=False, progress=False,
    )  # fmt: skip
    return probe, time.monotonic() - began


def row_of(teacher, spec, wanted, texts, held_out, hidden, checkpoint):
    """One row: the budget is spent, and the all-linear model is read."""
    init, budget, lr = wanted["init"], wanted["budget"], wanted["lr"]
    train = ha.TokenData.from_text(texts, teacher.tokenizer, SEQ_LEN, max(budget, 65_536))
    read = 8_192 if init == "calibrated" else 0
    steps = (budget - read) // SEQ_LEN
    if steps > 0:
        probe, seconds = aligned(teacher, spec, init, train, steps, lr, checkpoint)
    else:
        probe, seconds = start_only(teacher, spec, init, train)
    row = {
        **wanted,
        "calibration_tokens": read,
        "aligned_tokens": max(steps, 0) * SEQ_LEN,
        "seconds": seconds,
    }
    if probe.calibration is not None:
        row["calibration_seconds"] = probe.calibration.seconds
    for length, data in held_out.items():
        found = ha.evaluate.kl(probe.to_hybrid([]), teacher, data, teacher_hidden=hidden[length])
        row[f"kl_{length}"], row[f"kl_{length}_stderr"] = found.kl, found.kl_stderr
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixer", default="gated_delta", help="kind (default: %(default)s)")
    parser.add_argument("--budgets", type=numbers, default=[8_192, 16_384, 32_768, 65_536])
    parser.add_argument("--inits", default=",".join(INITS), help="starts, by commas (default: both)")
    parser.add_argument("--lr", type=float, default=0.0, help="rate of step 1 (default: the mixer's own)")
    parser.add_argument("--json", required=True, help="rows are kept here")
    args = parser.parse_args()
    out = Path(args.json)
    made = json.loads(out.read_text()) if out.exists() else {"seq_len": SEQ_LEN, "rows": []}
    made["machine"] = ha.show_config()
    lr = args.lr or radlads.align_lr(args.mixer)
    teacher = ha.Model.from_pretrained("smollm2-135m")
    train, heldout = (ha.load_text(file) for file in hub.fetch_text())
    held_out = {n: ha.TokenData.from_text(heldout, teacher.tokenizer, n, HELD_OUT) for n in LENGTHS}
    hidden = {n: ha.evaluate.final_hidden(teacher, data) for n, data in held_out.items()}
    for init in args.inits.split(","):
        for budget in args.budgets:
            wanted = {"mixer": args.mixer, "init": init, "budget": budget, "lr": lr}
            if any(all(row[key] == value for key, value in wanted.items()) for row in made["rows"]):
                continue
            checkpoint = out.with_suffix(f".{args.mixer}-{init}-{budget}-{lr:g}.safetensors")
            row = row_of(teacher, {"kind": args.mixer}, wanted, train, held_out, hidden, checkpoint)
            made["rows"].append(row)
            files.write_sheet(out, made)
            checkpoint.unlink(missing_ok=True)
            print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
