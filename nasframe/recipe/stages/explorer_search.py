"""A search by an explorer: each score is a record, and the best architecture is kept."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import final

from nasframe.core import (
    Executor,
    Explorer,
    Genotype,
    Model,
    Penalty,
    Record,
    Space,
    choices_of,
    cost_scale,
)
from nasframe.core.chance import constant_figures
from nasframe.errors import TrainingError, UnsupportedError
from nasframe.recipe.additions import Additions, figures_of
from nasframe.recipe.ahead import Ahead
from nasframe.recipe.discovery import imported_modules
from nasframe.recipe.exploring import (
    Answer,
    CostLimit,
    Exploration,
    Scored,
    ScoreLog,
    budgets_of,
    trains_supernet,
)
from nasframe.recipe.stages.fitting import Fitting
from nasframe.recipe.stages.preference import Preference
from nasframe.recipe.stages.records import graphs_of, truth, with_alphas, with_figures
from nasframe.recipe.stages.scoring import score_elsewhere, score_of
from nasframe.recipe.stages.supernet_search import initial_supernet
from nasframe.recipe.stages.workshop import Workshop
from nasframe.recipe.verdict import of_scores
from nasframe.registry import Component


@final
@dataclass(frozen=True)
class ExplorerSearch:
    """Lets an explorer find the architecture.

    Attributes:
        workshop: Of the run.
        fitting: Trains the supernet that scores need, if they do.
        preference: Hears which architecture is the best so far.
        executor: Where scores are worked out, side by side; None for here, one after the other.
    """

    workshop: Workshop
    fitting: Fitting
    preference: Preference
    executor: Callable[[], Executor] | None

    def run(self, component: Component[Explorer], space: Space) -> tuple[Genotype, Model | None]:
        """What was found, and the supernet whose weights scored it, if one did."""
        recipe, directory = self.workshop.recipe, self.workshop.directory
        section = recipe.search
        self._tell("")
        if section.score is None:
            raise UnsupportedError("search.explorer: must have a search.score to ask for; set one")
        trained, num_records = self._trained(space) if trains_supernet(section.score) else (None, 0)
        limit = self._cost_limit(space)
        directory.stage("search")
        with self._ahead(space) as ahead:
            exploration = Exploration(
                component(space, recipe.seed),
                lambda: score_of(self.workshop, space, trained),
                ScoreLog(directory.scores),
                section.evaluations,
                recipe.seed,
                self.workshop.interrupts,
                limit,
                ahead,
            )
            best = self._explored(exploration, space, num_records + 1)
        self._tell(self._verdict(best, score_of(self.workshop, space, trained).figure))
        return best.genotype, trained

    def _tell(self, verdict: str) -> None:
        left_out = {"all": "the architecture is found by an explorer, not read off alphas"}
        self.workshop.directory.update_status(health={"verdict": verdict, "left_out": left_out})

    def _verdict(self, best: Scored, figure: str | None) -> str:
        """Whether luck explains the best score, where it is a figure of held-out examples."""
        recipe, task = self.workshop.recipe, self.workshop.data.task
        _, valid = self.workshop.examples(recipe.search.valid_fraction)
        if figure is None or not len(valid):
            return ""
        constant = constant_figures(recipe.objective(), valid, task.num_outputs)
        return of_scores(best.value, recipe.search.evaluations, figure, constant, len(valid))

    def _trained(self, space: Space) -> tuple[Model, int]:
        """The supernet that scores need, and the step of its last record."""
        section = self.workshop.recipe.search
        model = initial_supernet(self.workshop, space)
        has_alphas = "alpha" in model.kinds()
        additions = Additions(section.regularizers, section.perturbation)
        objective = additions.objective(self.workshop.recipe.objective(), model)
        make_algorithm = additions.algorithm(section.algorithm)

        def describe(record: Record) -> Record:
            record = with_figures(record, figures_of(objective))
            return with_alphas(record, model, {}) if has_alphas else record

        last = self.fitting.fit("search", section, model, objective, make_algorithm, describe)
        return model, last

    def _cost_limit(self, space: Space) -> CostLimit | None:
        """What the networks that will be retrained may cost."""
        section = self.workshop.recipe.search
        if section.cost is None:
            return None
        choices = choices_of(space)
        prices = self.workshop.prices(choices, section.cost)
        penalty: Penalty = section.penalty(cost_scale(choices, prices, section.cost().units))
        return None if penalty.max_cost is None else CostLimit(prices, penalty.max_cost)

    @contextmanager
    def _ahead(self, space: Space) -> Iterator[Answer | None]:
        """What works scores out side by side, if that is wanted."""
        if self.executor is None:
            yield None
            return
        root = self.workshop.directory.root
        log = ScoreLog(self.workshop.directory.stage("search") / "ahead.jsonl")
        score = partial(score_elsewhere, root, imported_modules())
        with self.executor().opened(root, lasting=True) as workers:
            yield Ahead(workers, log, score, space).outcome

    def _explored(self, exploration: Exploration, space: Space, start: int) -> Scored:
        """The best of what an explorer had scored; each score is a record, from the step `start` on."""
        best: Scored | None = None
        explorer, first = exploration.explorer, len(exploration.log.before)
        budgets = budgets_of(explorer, exploration.evaluations) if explorer.uses_budgets else []
        with self.fitting.trackers.opening("search") as start_tracking:
            track = start_tracking(start)
            for index, (scored, found) in enumerate(exploration.run()):
                record = Record(start + index, is_last=index + 1 == exploration.evaluations)
                if explorer.uses_budgets:
                    record = with_figures(record, {"budget": scored.budget})
                if scored.score is not None:
                    record = with_figures(record, {"score": scored.score})
                if found is not None:
                    told = self._told(exploration, found)
                    record = with_figures(record, {"best_score": found.value, **told})
                    if found is not best:
                        self.preference.hear(found.genotype)
                        record = replace(record, graphs=graphs_of(space, found.genotype))
                best = found
                with self.workshop.interrupts.deferred():
                    track(record)
                figures = {"score": scored.value, "best_score": -math.inf if best is None else best.value}
                if explorer.uses_budgets and index >= first:  # before, nothing was scored, but read
                    figures["work_left"] = sum(budgets[index + 1 :]) / sum(budgets[first : index + 1])
                self.fitting.hear("search", index + 1, exploration.evaluations, 0, figures)
        if best is None:
            raise TrainingError(
                f"search: some of the {exploration.evaluations} architectures must have a score, but none "
                "has; look at what was told of them, and choose another search.score or its settings"
            )
        return best

    def _told(self, exploration: Exploration, best: Scored) -> dict[str, float]:
        """What else is known of the best architecture."""
        figures = truth(self.workshop.standing(best.genotype))
        return figures if exploration.limit is None else figures | exploration.limit.figures(best.genotype)
