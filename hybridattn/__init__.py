"""hybridattn turns a pretrained softmax Transformer into a hybrid of softmax and linear attention, on
CPUs.

    teacher = Model.from_pretrained("smollm2-135m")
    data = TokenData.from_text(load_text("text.txt"), teacher.tokenizer, seq_len=512)
    probe = align(teacher, {"kind": "window_linear"}, data, steps=100, batch_size=4)
    scores = score(probe, recall_prompts(teacher.tokenizer, 8, 512), "kl_replace")
    hybrid = probe.to_hybrid(plan.make(scores, k=8))
    distill(hybrid, teacher, data, steps=100, batch_size=4)
    hybrid.save_pretrained("hybrid")

Names are imported when they are first used, so that importing the package, and `hybridattn --help`, are
quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .lazy import contents, face

# The table of contents: where each public name lives, and the rooms that are used by their own name.
_HOME = {
    "Cache": "_core",
    "Distiller": "_core",
    "KLScorer": "_core",
    "Tensor": "_core",
    "get_num_threads": "_core",
    "mixers": "_core",
    "ops": "_core",
    "reference": "_core",
    "register_mixer": "_core",
    "set_num_threads": "_core",
    "show_config": "_core",
    "ModelConfig": "families.config",
    "TokenData": "data.tokens",
    "Tokenizer": "data.tokenizer",
    "load_text": "data.text_files",
    "recall_prompts": "diagnostics",
    "scoring_text": "diagnostics",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "ExportError": "errors",
    "HybridAttnError": "errors",
    "LockedError": "errors",
    "PlanError": "errors",
    "WeightError": "errors",
    "latency": "evaluate.latency",
    "perplexity": "evaluate.text",
    "Chat": "model.chat",
    "Model": "model.model",
    "Plan": "model.plan",
    "TrainResult": "model.result",
    "align": "radlads.steps",
    "distill": "radlads.steps",
    "finetune": "radlads.steps",
    "LayerScores": "select",
    "register_selector": "select",
    "score": "select",
    "selectors": "select",
}
_MODULES = {
    "checkpoint": "radlads.checkpoint",
    "choices": "evaluate.choices",
    "data": "data",
    "diagnostics": "diagnostics",
    "distributed": "distributed",
    "elastic": "select.elastic",
    "errors": "errors",
    "evaluate": "evaluate",
    "export": "export",
    "fetch": "evaluate.fetch",
    "generate": "model.generate",
    "glue": "evaluate.glue",
    "hub": "data.hub",
    "likelihood": "model.likelihood",
    "measure": "evaluate.latency",
    "model": "model",
    "pipeline": "pipeline",
    "plan": "select.plan",
    "radlads": "radlads",
    "rankings": "select.rankings",
    "schedules": "radlads.schedules",
    "select": "select",
    "squad": "evaluate.squad",
    "tasks": "tasks",
    "testing": "testing",
}

__all__ = ["__version__", *_MODULES, *_HOME]

if TYPE_CHECKING:  # the same for type checkers
    from . import data as data
    from . import diagnostics as diagnostics
    from . import distributed as distributed
    from . import errors as errors
    from . import evaluate as evaluate
    from . import export as export
    from . import model as model
    from . import pipeline as pipeline
    from . import radlads as radlads
    from . import select as select
    from . import tasks as tasks
    from . import testing as testing
    from ._core import Cache as Cache
    from ._core import Distiller as Distiller
    from ._core import KLScorer as KLScorer
    from ._core import Tensor as Tensor
    from ._core import get_num_threads as get_num_threads
    from ._core import mixers as mixers
    from ._core import ops as ops
    from ._core import reference as reference
    from ._core import register_mixer as register_mixer
    from ._core import set_num_threads as set_num_threads
    from ._core import show_config as show_config
    from .data import hub as hub
    from .data.text_files import load_text as load_text
    from .data.tokenizer import Tokenizer as Tokenizer
    from .data.tokens import TokenData as TokenData
    from .diagnostics import recall_prompts as recall_prompts
    from .diagnostics import scoring_text as scoring_text
    from .errors import CheckpointError as CheckpointError
    from .errors import ConfigError as ConfigError
    from .errors import DataError as DataError
    from .errors import ExportError as ExportError
    from .errors import HybridAttnError as HybridAttnError
    from .errors import LockedError as LockedError
    from .errors import PlanError as PlanError
    from .errors import WeightError as WeightError
    from .evaluate import choices as choices
    from .evaluate import fetch as fetch
    from .evaluate import glue as glue
    from .evaluate import latency as measure  # noqa: F401
    from .evaluate import squad as squad
    from .evaluate.latency import latency as latency
    from .evaluate.text import perplexity as perplexity
    from .families.config import ModelConfig as ModelConfig
    from .model import generate as generate
    from .model import likelihood as likelihood
    from .model.chat import Chat as Chat
    from .model.model import Model as Model
    from .model.plan import Plan as Plan
    from .model.result import TrainResult as TrainResult
    from .radlads import checkpoint as checkpoint
    from .radlads import schedules as schedules
    from .radlads.steps import align as align
    from .radlads.steps import distill as distill
    from .radlads.steps import finetune as finetune
    from .select import LayerScores as LayerScores
    from .select import elastic as elastic
    from .select import plan as plan
    from .select import rankings as rankings
    from .select import register_selector as register_selector
    from .select import score as score
    from .select import selectors as selectors

    __version__: str
else:
    _named = face(__name__, _HOME)

    def __getattr__(name):
        if name == "__version__":
            value = import_module("._core", __name__).show_config()["version"]
        elif name in _MODULES:
            value = import_module(f".{_MODULES[name]}", __name__)
        else:
            return _named(name)
        globals()[name] = value
        return value


__dir__ = contents(__name__)
