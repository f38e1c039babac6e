"""What do guesses bring to decoding a hybrid?

    python benchmarks/speculative.py --model FOLDER --train
    python benchmarks/speculative.py --model FOLDER/hybrid [--new 512] [--context 2048] [--json FILE]
    python benchmarks/speculative.py --model FOLDER/probe --layers 2 6 10 14 17 21 25 29

--train makes both folders: SmolLM2-135M with gated_delta beside softmax in every layer, aligned on 32,768
tokens, and its hybrid of 8 softmax layers, distilled on 49,152. Else, with weights of 8 bits: seconds of
greedy text of --new tokens after --context of held-out Wikipedia, plain and with each draft, in turn; passes,
and the share of guesses that stayed. Texts are compared with the plain one; reading the prompt is not timed.
A model that holds both mixers runs with --layers softmax, and is asked for its all-linear setting, too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from unittest import mock

import machine
from protocol import median

import hybridattn as ha
from hybridattn import hub
from hybridattn.model import generate as generating
from hybridattn.model.speculative import Speculation

SOFTMAX_LAYERS = 8
ALIGN_TOKENS, DISTILL_TOKENS = 32_768, 49_152
WAYS = [("plain", 0, None), ("lookup", 3, "lookup"), ("lookup", 7, "lookup"), ("lookup", 15, "lookup")]
WAYS += [("linear", 1, "linear"), ("linear", 3, "linear")]


def train(folder: Path) -> None:
    teacher = ha.Model.from_pretrained("smollm2-135m")
    text = ha.load_text(hub.fetch_text()[0])
    data = ha.TokenData.from_text(text, teacher.tokenizer, 512, ALIGN_TOKENS + DISTILL_TOKENS)
    probe = ha.align(teacher, {"kind": "gated_delta"}, data, ALIGN_TOKENS // 512, 1)
    probe.save_pretrained(folder / "probe")
    layers = len(probe.layers)
    hybrid = probe.to_hybrid([(j + 1) * layers // SOFTMAX_LAYERS - 1 for j in range(SOFTMAX_LAYERS)])
    rates = {"lr_mixers": 1e-3, "lr_rest": 3e-5, "lr_final": 1e-5, "schedule": "cosine"}
    ha.distill(hybrid, teacher, data, DISTILL_TOKENS // 512, 1, **rates)
    hybrid.save_pretrained(folder / "hybrid")


def text_of(model, prompt: list[int], new: int, layers, most: int, draft: str | None):
    """(seconds of all new tokens but the first, tokens, counts) of greedy text; the prompt is not timed."""
    kept, started = [], [0.0]

    class Kept(Speculation):
        def __init__(self, *args):
            super().__init__(*args)
            kept.append(self)

    options = generating.Options(max_new_tokens=new, softmax_layers=layers, speculative=most, draft=draft)
    row = generating.Row(None, prompt, frozenset(), ())
    with mock.patch.object(generating, "Speculation", Kept):
        for _ in generating._steps(model, [row], options):
            started[0] = started[0] or time.perf_counter()
    return time.perf_counter() - started[0], row.tokens, kept[0].counts if kept else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a model, or the one that --train fills")
    parser.add_argument("--train", action="store_true", help="make the models, and measure nothing")
    parser.add_argument("--layers", type=int, nargs="+", help="softmax layers of a model with both mixers")
    parser.add_argument("--new", type=int, default=512)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--texts", type=int, default=2, help="prompts")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.train:
        train(Path(args.model))
        return
    machine.warn_if_busy()
    model = ha.Model.from_pretrained(args.model).astype("q8_0")
    both = all(len(specs) == 2 for specs in model.layers)
    layers = args.layers if both else None
    ways = [way for way in WAYS if both or way[0] != "linear"]
    text = ha.load_text(hub.fetch_text()[1])
    data = ha.TokenData.from_text(text, model.tokenizer, args.context, args.context * args.texts)
    prompts = [data.tokens[start:stop].tolist() for start, stop in data.windows[: args.texts]]
    rows = []
    for number, prompt in enumerate(prompts):
        seconds: dict[int, list[float]] = {i: [] for i in range(len(ways))}
        found = {}
        for _ in range(args.repeat):
            for i, (_, most, draft) in enumerate(ways):
                took, tokens, counts = text_of(model, prompt, args.new, layers, most, draft)
                seconds[i].append(took)
                found[i] = tokens, counts
        for i, (name, most, _) in enumerate(ways):
            tokens, counts = found[i]
            row = {
                "text": number,
                "draft": name,
                "speculative": most,
                "seconds": seconds[i],
                "gain": median(seconds[0]) / median(seconds[i]),
                "same_text": tokens == found[0][0],
                **(vars(counts) if counts else {"passes": args.new - 1, "guessed": 0, "accepted": 0}),
            }
            rows.append(row)
            share = row["accepted"] / max(1, row["guessed"])
            print(
                f"text {number}  {name:>6} {most:2d}  {median(seconds[i]):6.2f} s  gain {row['gain']:.2f}  "
                f"passes {row['passes']:3d}  guesses kept {share:.2f}  same text: {row['same_text']}",
                flush=True,
            )
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k not in ("json", "model")}
        machine.write_json(args.json, {"machine": machine.facts(), "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
