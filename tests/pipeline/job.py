"""A small recipe and what a run of it gives, for the tests in this folder."""

import json

from hybridattn import pipeline
from hybridattn.pipeline.recipe import Recipe
from hybridattn.pipeline.recipe_toml import merge

SMALL = {
    "mixer": {"window": 8},
    "align": {"tokens": 512, "seq_len": 32, "batch_size": 2},
    "score": {"methods": ["kl_replace", "kl_gate"], "text": "mix", "tokens": 128, "seq_len": 32},
    "plan": {"softmax_layers": 1, "method": "kl_replace", "random_seeds": 2},
    "distill": {"tokens": 256, "seq_len": 32, "batch_size": 2, "models": ["chosen", "uniform", "random"]},
    "evaluate": {"tokens": 256, "lengths": [32, 64]},
    "measure": {"lengths": [16, 32], "decode_tokens": 2, "repeats": 1},
    "samples": {"prompt": "The mill", "tokens": 6},
}


def go(inputs, out, **changes):
    """(results, names of the stages that ran) of a run."""
    lines = []
    recipe = Recipe.from_dict(merge(merge(inputs, SMALL), changes))
    paths = pipeline.run(recipe, out, lines.append, progress=False)
    ran = [line.split()[1].rstrip(":") for line in lines if line.startswith("[") and ": done in" in line]
    return json.loads(paths["json"].read_text(encoding="utf-8")), ran


def without_times(results):
    """The parts of the results that a second run must repeat exactly."""
    timed = ("prefill", "decode", "prefill_range", "decode_range", "speed")
    models = [{k: v for k, v in m.items() if k not in timed} for m in results["models"]]
    scores = [{k: v for k, v in s.items() if k != "seconds"} for s in results["scores"]]
    return models, scores, results["curves"], results["chosen"]
