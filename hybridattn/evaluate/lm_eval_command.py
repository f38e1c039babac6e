"""lm-eval's own command with `hybridattn` among its models: lm-eval has no way to find models of others.

    python -m hybridattn.evaluate.lm_eval_command run --model hybridattn \\
        --model_args pretrained=hybrid --tasks piqa
"""

from __future__ import annotations

import sys

from ..errors import ConfigError
from . import lm_eval as model


def main() -> None:
    """The command `lm_eval` of the installed lm-eval, once our model is registered with it."""
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError:
        raise ConfigError("lm-eval is not installed: pip install 'hybridattn[lm-eval]'") from None
    assert model.HybridAttnLM is not None  # importing it has registered it
    cli_evaluate()


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"error: {error}")
