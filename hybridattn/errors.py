"""The errors this package raises on purpose. All are ValueErrors with a message of one line.

A message names the field or file, the value found and what is allowed, so that a command line can print it as
it is.
"""

from .lazy import contents

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExportError",
    "HybridAttnError",
    "LockedError",
    "PlanError",
    "Unfinished",
    "WeightError",
]
__dir__ = contents(__name__)


class HybridAttnError(ValueError):
    """Base class. Catch this to catch everything below."""


class ConfigError(HybridAttnError):
    """A model configuration that is wrong, or right but not supported."""


class WeightError(HybridAttnError):
    """A weight file that is damaged, or whose tensors do not fit the configuration."""


class DataError(HybridAttnError):
    """Text, tokens or a tokenizer that cannot be used."""


class CheckpointError(HybridAttnError):
    """A training checkpoint that is damaged or belongs to another run."""


class Unfinished(DataError):
    """A shard has done its part; others have not."""


class PlanError(HybridAttnError):
    """A plan of softmax layers that is damaged or does not fit the model."""


class LockedError(HybridAttnError):
    """A file or folder that another run is writing."""


class ExportError(HybridAttnError):
    """A model that a layout of another program does not hold, or a folder that an export may not replace."""
