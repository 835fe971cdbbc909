"""Every error and warning that nasframe raises on purpose, by who must act on it."""

from dataclasses import dataclass

from nasframe.problem_kinds import ProblemKind


class NasframeError(Exception):
    """The base of all: catch this one to catch any."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe.

    Attributes:
        kind: What it has in common with others; has its code, and an explanation.
        where: ``file:line:column`` or ``command line``.
        path: The YAML path, such as ``search.trainer.epochs``.
        rule: What must hold.
        given: What was given, as it was written.
        advice: What to do, such as the nearest valid spelling; may be empty.
    """

    kind: ProblemKind
    where: str
    path: str
    rule: str
    given: str = ""
    advice: str = ""

    @property
    def position(self) -> tuple[str, int, int]:
        """File, line and column; ``("", 0, 0)`` on the command line."""
        file, *numbers = self.where.rsplit(":", 2)
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            return file, int(numbers[0]), int(numbers[1])
        return "", 0, 0

    def __str__(self) -> str:
        got = f", got {self.given}" if self.given else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.where}: {self.kind.code} {self.path or 'recipe'}: {self.rule}{got}{advice}"


class RecipeError(NasframeError):
    """The recipe or the arguments must be changed; holds all problems, in the order of their places.

    Those of the command line come first, by path.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.position, problem.path))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"the recipe has {count}", *map(str, self.problems)]))


class ComponentError(NasframeError):
    """The author of a component or plugin must act: its registration or contract is broken."""


class UnsupportedError(NasframeError):
    """The combination that was asked for cannot be computed; another setting must be chosen."""


class SettingError(UnsupportedError):
    """A component was built by hand with a setting that a recipe could not have; it must be another."""


class TrainingError(NasframeError):
    """A training went wrong in its numbers; its settings must be changed."""


class NonFiniteError(TrainingError):
    """A loss, a gradient or an alpha is not a finite number."""


class OutOfMemoryError(TrainingError):
    """A step needs more memory than the device has; says which setting to change, and to what."""


class DataError(NasframeError):
    """A data set is missing, unreadable or not what it must be."""


class FormatError(NasframeError):
    """A file or text that nasframe reads (genotype, checkpoint, run directory) is not valid."""


class StorageError(NasframeError):
    """A file or folder cannot be written, or another process holds it."""


class RankError(NasframeError):
    """A process of a run on several ranks is gone, or they no longer hold the same numbers."""


class FaultWarning(UserWarning):
    """Something broke and was got over: says what, and what that costs."""


class HealthWarning(UserWarning):
    """A search finds nothing that is worth its time any more, or what it found cannot work: says why."""


class FormerNameWarning(FutureWarning):
    """Something is said by a name that it had before; it is read, until that name is gone."""
