"""lm-eval's own command with `hybridattn` among its models.

    python -m hybridattn.evaluate.lm_eval_command run --model hybridattn \\
        --model_args pretrained=hybrid --tasks piqa

lm-eval 0.4.13 reads no entry points and imports no package of others for its models. What it does import,
before it looks for the model, is what a task file in --tasks refers to: `--plugin` prints the path of one.

    lm_eval run --model hybridattn --model_args pretrained=hybrid \\
        --tasks $(python -m hybridattn.evaluate.lm_eval_command --plugin) piqa
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import ConfigError
from . import lm_eval as model

PLUGIN = Path(__file__).with_name("lm_eval.yaml")


def main() -> None:
    """The command `lm_eval` of the installed lm-eval, once our model is registered with it; with `--plugin`
    alone, the path of a task file that registers it from `lm_eval` itself.
    """
    if sys.argv[1:] == ["--plugin"]:
        print(PLUGIN)
        return
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
