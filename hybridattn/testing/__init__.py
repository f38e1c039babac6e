"""Checks for those who write mixers and selectors or guard results: functions, and a pytest plugin.

    models.py       tiny models of every family, with a byte tokenizer: random weights, no download
    closeness.py    are two models, or two sets of scores, the same?
    mixers.py       what every linear mixer keeps to: `check_mixer`
    selectors.py    what every selector keeps to: `check_selector`
    checks.py       a run of checks that tells all that failed
    figures.py      the figures of a run: how each is kept in a file, and when it has moved
    regression.py   a test's figures against the pinned ones
    plugin.py       the fixture `hybrid_regression` and the flag `--hybrid-update`

pytest loads the plugin by itself where the package is installed. docs/testing.md shows a whole suite.
"""

from typing import TYPE_CHECKING

from ..lazy import contents, face

_HOME = {
    "MIXER_CHECKS": "mixers",
    "SELECTOR_CHECKS": "selectors",
    "TOLERANCES": "closeness",
    "assert_models_close": "closeness",
    "assert_same_weights": "closeness",
    "assert_scores_close": "closeness",
    "byte_tokenizer": "models",
    "check_mixer": "mixers",
    "check_selector": "selectors",
    "randomize": "models",
    "tiny_model": "models",
    "tiny_text": "models",
}

__all__ = list(_HOME)

if TYPE_CHECKING:
    from .closeness import TOLERANCES as TOLERANCES
    from .closeness import assert_models_close as assert_models_close
    from .closeness import assert_same_weights as assert_same_weights
    from .closeness import assert_scores_close as assert_scores_close
    from .mixers import MIXER_CHECKS as MIXER_CHECKS
    from .mixers import check_mixer as check_mixer
    from .models import byte_tokenizer as byte_tokenizer
    from .models import randomize as randomize
    from .models import tiny_model as tiny_model
    from .models import tiny_text as tiny_text
    from .selectors import SELECTOR_CHECKS as SELECTOR_CHECKS
    from .selectors import check_selector as check_selector
else:
    __getattr__ = face(__name__, _HOME)

__dir__ = contents(__name__)
