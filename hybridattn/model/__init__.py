"""The model a user holds, and the plan that says which of its layers stay softmax."""

from ..lazy import contents
from .model import Model
from .plan import Plan
from .result import TrainResult

__all__ = ["Model", "Plan", "TrainResult"]
__dir__ = contents(__name__)
