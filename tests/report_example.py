"""Invented results of a run, in the shape hybridattn.report takes: 30 layers, 8 softmax, two lengths, three
random sets."""

from __future__ import annotations

import math
import random

LAYERS, LENGTHS, TIMED = 30, (512, 2048), (512, 1024, 2048)
CHOSEN = [3, 5, 8, 10, 18, 22, 23, 24]


def evaluation(kl: float, ppl: float, seed: int) -> dict:
    noise = random.Random(seed)
    rows = {}
    for length, count, factor in ((512, 16, 1.0), (2048, 4, 2.6)):
        values = [kl * factor * (1 + 0.2 * noise.random() - 0.1) for _ in range(count)]
        mean = sum(values) / count
        stderr = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1) / count)
        rows[str(length)] = {
            "kl": mean,
            "kl_stderr": stderr,
            "per_sequence": values,
            "agreement": 1.0 - 0.9 * mean,
            "agreement_stderr": 0.004,
            "tokens": 8192,
            "perplexity": ppl if length == 512 else ppl * 0.6,
        }
    return rows


def ratio(what: str, length: int, layers: int, speed: float) -> list[float]:
    """Times the teacher's speed: median and range."""
    base, own = (0.0141 + length * 1.9e-6 * share for share in (1.0, layers / LAYERS))
    middle = speed if what == "prefill" else base / own
    return [middle, 0.97 * middle, 1.02 * middle]


def model(name: str, layers: list[int], before, after=None, speed: float = 1.0) -> dict:
    fixed = (LAYERS - len(layers)) * 98_304
    timed = {
        "prefill": {str(n): n / (720 * speed) * (1 + n / 9000) for n in TIMED},
        "decode": {str(n): (0.0141 + n * 1.9e-6 * len(layers) / LAYERS) for n in TIMED},
    }
    return {
        "id": name,
        "softmax_layers": layers,
        "before": before,
        "after": after,
        "cache": {"bytes_per_token": 1536 * len(layers), "fixed_bytes": fixed},
        **timed,
        **{
            f"{what}_range": {k: [0.98 * v, 1.03 * v] for k, v in times.items()}
            for what, times in timed.items()
        },
        "speed": {what: {str(n): ratio(what, n, len(layers), speed) for n in TIMED} for what in timed},
        "sample": {
            "before": " is the fifth largest satellite in the Solar System | and the *largest* "
            "<b>relative</b> to its planet.",
            "after": " orbits at an average distance of 384,400 km, and its gravity causes the tides."
            if after
            else "",
        },
    }


def results(chosen_kl: float = 0.055) -> dict:
    noise = random.Random(0)
    scores = []
    for method, scale in (("kl_gate", 0.01), ("kl_replace", 0.004), ("kl_restore", 0.006)):
        values = [scale * (noise.random() ** 2 + (1.1 if i in CHOSEN else -0.1)) for i in range(LAYERS)]
        scores.append(
            {
                "method": method,
                "text": "recall",
                "values": values,
                "stderr": [0.12 * abs(v) + 0.03 * scale for v in values],
                "all_linear_kl": 0.31,
                "sequences": 8,
                "tokens": 4096,
                "seconds": 12.4,
                "layers": CHOSEN,
                "spearman": 1.0 if method == "kl_gate" else 0.81,
                "shared": 8 if method == "kl_gate" else 6,
            }
        )
    curve = [0.3 * math.exp(-i / 30) + 0.05 + 0.01 * noise.random() for i in range(80)]
    distill = {
        name: {
            "tokens": [1024 * (i + 1) for i in range(16)],
            "loss": [kl * (1 - 0.02 * i) * (1 + 0.15 * noise.random()) for i in range(16)],
        }
        for name, kl in (("chosen", 0.06), ("uniform", 0.17), ("random-0", 0.2), ("random-1", 0.18))
    }
    sets = {f"random-{s}": sorted(random.Random(s).sample(range(LAYERS), 8)) for s in range(3)}
    return {
        "title": "SmolLM2-135M with 8 of 30 layers softmax",
        "teacher": {
            "name": "SmolLM2-135M",
            "source": "demo",
            "num_layers": LAYERS,
            "hidden_size": 576,
            "parameters": 134_515_008,
        },
        "mixer": {"kind": "window_linear", "window": 64, "sinks": 4},
        "lengths": {"train": 512, "trained": 512, "step": 2, "all": list(LENGTHS)},
        "chosen": {"method": "kl_gate", "text": "recall", "softmax_layers": CHOSEN},
        "scores": scores,
        "additivity": {"all_linear_kl": 0.085, "sum_single_kl": 0.064, "gap": 0.021},
        "curves": {
            "align": {"tokens": [512 * (i + 1) for i in range(80)], "loss": curve},
            "distill": distill,
        },
        "models": [
            model("teacher", list(range(LAYERS)), evaluation(0.0, 26.8, 1)),
            model("all-linear", [], evaluation(0.256, 35.4, 2), speed=1.25),
            model(
                "uniform",
                [2, 6, 10, 14, 17, 21, 25, 29],
                evaluation(0.178, 32.4, 3),
                evaluation(0.151, 31.2, 4),
                1.1,
            ),
            *(
                model(
                    k,
                    v,
                    evaluation(0.16 + 0.02 * i, 32 + i, 5 + i),
                    evaluation(0.15 + 0.02 * i, 31 + i, 8 + i),
                    1.1,
                )
                for i, (k, v) in enumerate(sets.items())
            ),
            model("chosen", CHOSEN, evaluation(0.058, 28.7, 11), evaluation(chosen_kl, 28.4, 12), 1.1),
        ],
        "timing": {"rounds": 5, "busy": 0.01},
        "prompt": "The moon is the only natural satellite of the Earth. It",
        "made": {
            "seconds": 812.4,
            "recipe": "seed = 0\n\n[align]\ntokens = 40960\n",
            "stages": [
                {"name": "fetch", "seconds": 3.1, "tokens": None},
                {"name": "align", "seconds": 141.0, "tokens": 40960},
                {"name": "distill/chosen", "seconds": 126.0, "tokens": 16384},
            ],
            "versions": {"hybridattn": "0.1.0", "python": "3.11.7", "blis": "0.9.0"},
            "machine": {"cpu": "Example CPU", "cores": 2, "threads": 2},
        },
    }
