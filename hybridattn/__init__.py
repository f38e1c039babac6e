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

# The table of contents: where each public name lives.
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
    "ModelConfig": "config",
    "TokenData": "data",
    "load_text": "data",
    "scoring_text": "diagnostics",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "HybridAttnError": "errors",
    "LockedError": "errors",
    "PlanError": "errors",
    "WeightError": "errors",
    "perplexity": "evaluate",
    "latency": "measure",
    "Model": "model",
    "Plan": "plan",
    "align": "radlads",
    "distill": "radlads",
    "finetune": "radlads",
    "recall_prompts": "diagnostics",
    "LayerScores": "select",
    "score": "select",
    "selectors": "select",
    "Tokenizer": "tokenizer",
    "TrainResult": "training",
}
_MODULES = (
    "checkpoint",
    "choices",
    "data",
    "diagnostics",
    "elastic",
    "errors",
    "evaluate",
    "fetch",
    "generate",
    "glue",
    "hub",
    "likelihood",
    "measure",
    "model",
    "plan",
    "radlads",
    "rankings",
    "schedules",
    "select",
    "squad",
    "tasks",
)

__all__ = ["__version__", *_MODULES, *_HOME]

if TYPE_CHECKING:  # the same for type checkers
    from . import checkpoint as checkpoint
    from . import choices as choices
    from . import data as data
    from . import diagnostics as diagnostics
    from . import elastic as elastic
    from . import errors as errors
    from . import evaluate as evaluate
    from . import fetch as fetch
    from . import generate as generate
    from . import glue as glue
    from . import hub as hub
    from . import likelihood as likelihood
    from . import measure as measure
    from . import model as model
    from . import plan as plan
    from . import radlads as radlads
    from . import rankings as rankings
    from . import schedules as schedules
    from . import select as select
    from . import squad as squad
    from . import tasks as tasks
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
    from .config import ModelConfig as ModelConfig
    from .data import TokenData as TokenData
    from .data import load_text as load_text
    from .diagnostics import recall_prompts as recall_prompts
    from .diagnostics import scoring_text as scoring_text
    from .errors import CheckpointError as CheckpointError
    from .errors import ConfigError as ConfigError
    from .errors import DataError as DataError
    from .errors import HybridAttnError as HybridAttnError
    from .errors import LockedError as LockedError
    from .errors import PlanError as PlanError
    from .errors import WeightError as WeightError
    from .evaluate import perplexity as perplexity
    from .measure import latency as latency
    from .model import Model as Model
    from .plan import Plan as Plan
    from .radlads import align as align
    from .radlads import distill as distill
    from .radlads import finetune as finetune
    from .select import LayerScores as LayerScores
    from .select import score as score
    from .select import selectors as selectors
    from .tokenizer import Tokenizer as Tokenizer
    from .training import TrainResult as TrainResult

    __version__: str
else:

    def __getattr__(name):
        if name == "__version__":
            value = import_module("._core", __name__).show_config()["version"]
        elif name in _MODULES:
            value = import_module(f".{name}", __name__)
        elif name in _HOME:
            value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
