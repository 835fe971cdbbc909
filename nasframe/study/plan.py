"""What a study file says, and the trials that it makes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from nasframe.recipe import Recipe
from nasframe.recipe.tree import COMMAND_LINE, Node
from nasframe.types import NonNegativeInt, PositiveFloat, PositiveInt

RANDOM_SEARCH: Final = "random search"
RANDOM_ARCHITECTURE: Final = "random architecture"
HEAVIEST: Final = "most multiply-adds"
BASELINES: Final = (RANDOM_SEARCH, RANDOM_ARCHITECTURE, HEAVIEST)
"""What stands in every study: the best of as many random architectures as the budget trains, one of them
without any search, and the one with the most multiply-adds."""

_NOTHING: Final = Node({}, COMMAND_LINE, COMMAND_LINE)


@dataclass(frozen=True, kw_only=True)
class Method:
    """How an architecture is found.

    Args:
        recipe: Taken in place of the setting's, a file or a shipped recipe's name.
        overrides: What of the recipe is its own, as a recipe would say it.
    """

    recipe: str | None = None
    overrides: Node = _NOTHING


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where methods are compared.

    Args:
        recipe: With the space, the data and the training that all methods share; a file or a shipped
            recipe's name.
        overrides: What the recipe should say otherwise, such as a limit of costs.
    """

    recipe: str
    overrides: Node = _NOTHING


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What each search may cost; one of both is given.

    Args:
        epochs: Passes over the training examples: the epochs of a supernet, or those of all architectures
            that an explorer has trained.
        seconds: From which these epochs follow, by steps that are measured once before the first trial.
    """

    epochs: PositiveInt | None = None
    seconds: PositiveFloat | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison: each method in each setting with each seed, at equal budgets.

    Args:
        name: Names the study's folder.
        settings: Where methods are compared, by name.
        methods: What is compared, by name.
        budget: What each search may cost.
        seeds: Each of them is one trial of a method in a setting.
        random_epochs: Epochs that random search trains each of its architectures; it has as many as the
            budget allows.
        ranked: Architectures by which the ranking of a trained supernet is compared with the truth, where a
            table tells that; 0 for none.
        overrides: Laid over the recipes of all settings, such as where the data lies.
        tuning: How the settings of the methods were chosen and what that took, for the checklist; null where
            nobody knows.
    """

    name: str
    settings: dict[str, Setting]
    methods: dict[str, Method]
    budget: Budget = field(default_factory=Budget)
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)
    random_epochs: PositiveInt = 1
    ranked: NonNegativeInt = 30
    overrides: Node = _NOTHING
    tuning: str | None = None


@final
@dataclass(frozen=True)
class Trial:
    """One search, whose run directory is `folder`; it can be sent to another process.

    Attributes:
        setting: Where.
        method: What, also one of `BASELINES`.
        seed: All randomness follows from it.
        recipe: Complete.
        folder: Its run directory.
        ranked: Architectures whose ranking by the supernet is looked at.
        plugins: Modules of the user's that must be imported first.
    """

    setting: str
    method: str
    seed: int
    recipe: Recipe
    folder: Path
    ranked: int
    plugins: tuple[Path, ...] = ()

    @property
    def key(self) -> tuple[str, str, int]:
        return self.setting, self.method, self.seed

    def __str__(self) -> str:
        return f"{self.setting}, {self.method}, seed {self.seed}"
