"""The search stage: finds an architecture, and leaves it in the run directory."""

import warnings
from dataclasses import dataclass, replace
from typing import final

from nasframe.core import (
    Cost,
    Genotype,
    Idle,
    Model,
    Space,
    choices_of,
    cost_scale,
    derived,
    generator_for,
    inherit,
    reaches_output,
    read_genotype,
    sample,
    unit_of,
)
from nasframe.core.tensor_file import save_weights
from nasframe.errors import FormatError, HealthWarning, UnsupportedError
from nasframe.quantity import spell_amount
from nasframe.recipe.health import CUT
from nasframe.recipe.stages.explorer_search import ExplorerSearch
from nasframe.recipe.stages.supernet_search import SupernetSearch
from nasframe.recipe.stages.workshop import Workshop
from nasframe.registry import Component


@final
@dataclass(frozen=True)
class Searching:
    """Takes the architecture that is known, or lets one be found.

    Attributes:
        workshop: Of the run.
        by_supernet: Reads it off a trained supernet.
        by_explorer: Lets an explorer ask for scores.
    """

    workshop: Workshop
    by_supernet: SupernetSearch
    by_explorer: ExplorerSearch

    def run(self) -> None:
        """Write ``genotype.json``, and what the retraining begins with where it inherits."""
        recipe, directory = self.workshop.recipe, self.workshop.directory
        if recipe.genotype is not None:
            directory.stage("search")
            space: Space = recipe.retrain.space(self.workshop.data.task)
            known = read_genotype(recipe.genotype, space)
            self.workshop.standing(known)  # refused now, not after the retraining
            known.save(directory.genotype)
            if recipe.search.cost is not None:
                self._hold_against_budget(known, space, recipe.search.cost)
            return
        self._check_findings()
        task = self.workshop.data.task
        space = recipe.space(task)
        if recipe.search.explorer is not None:
            found, model = self.by_explorer.run(recipe.search.explorer, space)
        else:
            found, model = self.by_supernet.run(space)
        self._bequeath(found, model)
        found.save(directory.genotype)
        if reaches_output(space, found, task, Idle.in_space(space)) is False:
            directory.note(f"{CUT}: it answers all inputs alike")
            warnings.warn(f"derive: {CUT}: it answers all inputs alike", HealthWarning, stacklevel=2)

    def _hold_against_budget(self, known: Genotype, space: Space, cost: Component[Cost]) -> None:
        """Note where a known architecture costs more than it may, since no search keeps it from that."""
        prices, units = self.workshop.retrained_prices(cost), cost().units
        scale = cost_scale(choices_of(space), prices, units)
        # whether others would cost less does not matter here
        limit = self.workshop.recipe.search.penalty(replace(scale, cheapest=0.0)).max_cost
        if limit is not None and (price := prices.of(known)) > limit:
            costs, most = (spell_amount(each, unit_of(units)) for each in (price, limit))
            self.workshop.directory.note(
                f"search.penalty: by {cost.name} the given architecture costs {costs}, more than the budget "
                f"of {most}; it was trained all the same"
            )

    def _check_findings(self) -> None:
        """Refuse what could not take what the search finds, before that is paid for."""
        recipe, task = self.workshop.recipe, self.workshop.data.task
        drawn = sample(recipe.space(task), generator_for(recipe.seed, "check"))
        self.workshop.standing(drawn)
        try:
            derived(recipe.retrain.space(task), drawn, recomputed=recipe.retrain.recomputed)
        except (FormatError, UnsupportedError) as error:
            raise UnsupportedError(
                f"retrain.space: must build what a search of `space` finds, but cannot: {error}"
            ) from error

    def _bequeath(self, found: Genotype, model: Model | None) -> None:
        """Write what an architecture inherits from the supernet, if the retraining begins with that."""
        section = self.workshop.recipe.retrain
        if section.inherit and model is not None:
            heir = derived(section.space(self.workshop.data.task), found)
            save_weights(inherit(heir, model, found).state_dict(), self.workshop.directory.inherited)
