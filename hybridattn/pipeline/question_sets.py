"""The sets that the models of a run are asked, read and made once."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import ConfigError
from ..evaluate import glue, squad
from ..evaluate.choices import draw_some
from ..evaluate.glue import Split
from ..evaluate.squad import SquadData
from .recipe import Recipe
from .store import fingerprint


@dataclass(frozen=True)
class QuestionSets:
    """What is asked, by name: drawn examples and questions."""

    glue: dict[str, Split]
    squad: dict[str, SquadData]

    def digest(self) -> str:
        """Equal for equal examples and questions, wherever they were read from."""
        glue = {name: [asdict(e) for e in split.examples] for name, split in self.glue.items()}
        squad = {name: [asdict(q) for q in data.questions] for name, data in self.squad.items()}
        return fingerprint("tasks", [glue, squad])


def read(recipe: Recipe) -> QuestionSets:
    """The sets of a recipe, fetched when need be, each cut to its number of examples. Raises ConfigError,
    DataError.
    """
    part = recipe.tasks
    splits: dict[str, Split] = {}
    questions: dict[str, SquadData] = {}
    for entry in part.glue:
        whole = _split(entry, part.glue_data)
        drawn = draw_some(whole.examples, part.examples, recipe.seed)
        _new("glue", entry, whole.task.name, splits)
        splits[whole.task.name] = replace(whole, examples=drawn)
    for entry in part.squad:
        if entry not in squad.BUILTIN and not Path(entry).is_file():
            known = ", ".join(squad.BUILTIN)
            raise ConfigError(f"recipe: tasks.squad holds {entry!r}, no such file; allowed: a file, {known}")
        data = squad.builtin(entry) if entry in squad.BUILTIN else squad.read(entry)
        name = entry if entry in squad.BUILTIN else Path(entry).stem
        _new("squad", entry, name, questions)
        questions[name] = replace(data, questions=draw_some(data.questions, part.questions, recipe.seed))
    return QuestionSets(splits, questions)


def _new(key: str, entry: str, name: str, known: Container[str]) -> None:
    """Results are kept by name: refuse a second set of one."""
    if name in known:
        raise ConfigError(f"recipe: tasks.{key} holds {entry!r}, another {name}; allowed: each name once")


def _split(entry: str, folder: str) -> Split:
    """A GLUE or GLUE-style set by its name, "SST-2" or "SST-2/train"; validation where no split is named."""
    name, _, split = entry.partition("/")
    split = split or "validation"
    if split == "test":
        raise ConfigError(f"recipe: tasks.glue holds {entry!r}; allowed: train or validation, with labels")
    if name in glue.BUILTIN:
        return glue.builtin(name, split)
    try:
        task = glue.task_named(name)
    except ConfigError:
        known = ", ".join([*glue.BUILTIN, *glue.TASKS])
        raise ConfigError(f"recipe: tasks.glue holds {name!r}; allowed: {known}") from None
    if not folder:
        raise ConfigError(f"recipe: tasks.glue_data is empty; {name} needs the folder of GLUE's files")
    return glue.read(task, folder, split)
