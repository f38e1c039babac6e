"""One module per sub-command: `parser()` builds its argparse parser, `run(args)` does the work.

A command's module is imported when it is the one asked for, so the list of commands is instant.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

COMMANDS = {
    "run": "the whole job from one small recipe file: align, score, plan, distill, evaluate, report",
    "align": "step 1: give every layer a linear mixer that imitates its softmax mixer",
    "score": "rank layers by KL divergence: what is lost if this layer is linear?",
    "plan": "choose which layers stay softmax",
    "distill": "steps 2 and 3: train the hybrid on the teacher's predictions, then on text",
    "generate": "continue a text",
    "chat": "a conversation of many turns",
    "evaluate": "perplexity of a text, GLUE, SQuAD and the like, and KL divergence from a teacher",
    "recall": "how often a model looks up right what stands in its prompt",
    "bench": "time reading and writing, over several rounds and models",
    "quantize": "store a model in 16, 8 or 4 bits",
    "elastic": "one folder for any number of softmax layers",
    "export": "write a model as other programs read it: transformers, vLLM, llama.cpp",
    "fetch": "download GLUE or SQuAD from their official addresses",
    "completion": "what a shell needs to complete these commands",
    "info": "what a model, plan or score file holds; how the C core was built",
}


def load(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"{__name__}.{name}")
