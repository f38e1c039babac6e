"""What does one checkpoint for every budget cost, against a hybrid distilled for each?

    python benchmarks/elastic.py [--tokens 8192] [--budgets 4 8 15] [--json FILE]

SmolLM2-135M, window_linear, Wikipedia passages. One probe, one order of layers (kl_gate on recall prompts).
Each budget is distilled by itself on --tokens; the elastic model on --tokens in all, and on that for each
budget. Held-out KL.
"""

import argparse
import time

import hybridattn as ha
from hybridattn import elastic, files, hub

ALIGN_LEN, SEQ_LEN, LENGTHS = 2048, 512, (512, 2048)


def read(model, teacher, held_out, hidden):
    """{length: KL} of a hybrid in nats per token, with standard errors over windows."""
    found = {}
    for length, data in held_out.items():
        kl = ha.evaluate.kl(model, teacher, data, teacher_hidden=hidden[length])
        found[length] = {"mean": kl.kl, "stderr": kl.kl_stderr}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8_192, help="tokens of step 2 for one budget")
    parser.add_argument("--align-tokens", type=int, default=32_768)
    parser.add_argument("--eval-tokens", type=int, default=8_192)
    parser.add_argument("--budgets", type=int, nargs="+", default=[4, 8, 15])
    parser.add_argument("--json", help="write the results here")
    args = parser.parse_args()

    teacher = ha.Model.from_pretrained("smollm2-135m")
    train_file, heldout_file = hub.fetch_text()
    train = ha.load_text(train_file)
    windows = ha.TokenData.from_text(train, teacher.tokenizer, ALIGN_LEN, args.align_tokens)
    probe = ha.align(teacher, {"kind": "window_linear"}, windows, args.align_tokens // ALIGN_LEN, 1)
    scores = ha.score(probe, ha.recall_prompts(teacher.tokenizer, 4, SEQ_LEN), "kl_gate")
    whole = elastic.make(probe, scores)

    total = args.tokens * len(args.budgets)
    data = ha.TokenData.from_text(train, teacher.tokenizer, SEQ_LEN, total + args.align_tokens)
    held_out = {
        n: ha.TokenData.from_text(ha.load_text(heldout_file), teacher.tokenizer, n, args.eval_tokens)
        for n in LENGTHS
    }
    hidden = {n: ha.evaluate.final_hidden(teacher, text) for n, text in held_out.items()}
    rows = []

    def note(name, k, model, tokens, seconds):
        row = {"model": name, "softmax_layers": k, "tokens": tokens, "seconds": seconds}
        rows.append({**row, "kl": read(model, teacher, held_out, hidden)})
        kls = " ".join(f"{n}: {v['mean']:.4f} +- {v['stderr']:.4f}" for n, v in rows[-1]["kl"].items())
        print(f"{name:>20} {k:3d} of {len(teacher.layers)} after {tokens:6d} tokens   KL {kls}", flush=True)

    for k in args.budgets:
        hybrid = whole.to_hybrid(elastic.chosen(whole, k))
        note("before step 2", k, hybrid, 0, 0.0)
        began = time.monotonic()
        ha.distill(hybrid, teacher, data, args.tokens // SEQ_LEN, 1)
        note("for this budget", k, hybrid, args.tokens, time.monotonic() - began)
    for tokens in (args.tokens, total):
        model = whole.copy()
        began = time.monotonic()
        ha.distill(model, teacher, data, tokens // SEQ_LEN, 1, elastic=args.budgets)
        seconds = time.monotonic() - began
        for k in args.budgets:
            note("elastic", k, model.to_hybrid(elastic.chosen(model, k)), tokens, seconds)
    if args.json:
        arguments = {name: value for name, value in vars(args).items() if name != "json"}
        files.write_sheet(args.json, {"machine": ha.show_config(), "arguments": arguments, "rows": rows})


if __name__ == "__main__":
    main()
