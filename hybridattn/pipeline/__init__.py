"""The whole job from one recipe: `run(Recipe(), "out")`."""

from typing import TYPE_CHECKING

from ..lazy import contents, face

__all__ = ["Job", "run"]

if TYPE_CHECKING:
    from .execute import run as run
    from .job import Job as Job
else:
    __getattr__ = face(__name__, {"Job": "job", "run": "execute"})

__dir__ = contents(__name__)
