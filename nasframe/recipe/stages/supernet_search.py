"""A search by a supernet: its alphas are trained, and the architecture is read off them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch

from nasframe.core import (
    Algorithm,
    Deriver,
    Genotype,
    Guard,
    Model,
    Objective,
    Record,
    Space,
    derived,
    generator_for,
    inherit,
    sample,
    seed_for,
    supernet,
)
from nasframe.core.ranks import shared
from nasframe.recipe.additions import Additions, figures_of
from nasframe.recipe.health import SearchHealth, Subject
from nasframe.recipe.pricing import Pricing
from nasframe.recipe.progression import Progression, Stretch
from nasframe.recipe.recipe import Search
from nasframe.recipe.stages.fitting import Fitting
from nasframe.recipe.stages.preference import Preference
from nasframe.recipe.stages.records import graphs_of, truth, with_alphas, with_figures
from nasframe.recipe.stages.workshop import Workshop


def initial_supernet(workshop: Workshop, space: Space) -> Model:
    """The supernet of a run's search as its seed begins it.

    Raises:
        UnsupportedError: The retraining could not inherit its weights.
    """
    recipe = workshop.recipe
    section = recipe.search
    torch.manual_seed(seed_for(recipe.seed, "search", "init"))
    model = supernet(space, section.mixed_op, fused=section.fused, recomputed=section.recomputed)
    if recipe.retrain.inherit:  # refused now, not after the search
        drawn = sample(space, generator_for(recipe.seed, "check"))
        inherit(derived(recipe.retrain.space(workshop.data.task), drawn), model, drawn)
    return model


@final
@dataclass(frozen=True)
class SupernetSearch:
    """Trains a supernet, in stages of its own where the recipe has some, and derives an architecture.

    Attributes:
        workshop: Of the run.
        fitting: Trains.
        preference: Hears what the alphas prefer after each epoch.
    """

    workshop: Workshop
    fitting: Fitting
    preference: Preference

    def run(self, space: Space) -> tuple[Genotype, Model]:
        """What was found, and the supernet that it was read off."""
        recipe = self.workshop.recipe
        section = recipe.search
        deriver = section.deriver()
        if section.stages:

            def train(space: Space, model: Model, section: Search, stretch: Stretch) -> int:
                return self._train(space, model, section, deriver, stretch)[0]

            folder = self.workshop.directory.stage
            model = Progression(recipe, self.workshop.data.task, folder).run(train)
            derive: Callable[[], Genotype] = partial(deriver.derive, model)
        else:
            model = initial_supernet(self.workshop, space)
            stretch = Stretch("search", recipe.seed, "search")
            _, derive = self._train(space, model, section, deriver, stretch)
        found = deriver.derive_validated(model, self._validate) if deriver.validates else derive()
        return shared(lambda: found), model

    def _train(
        self, space: Space, model: Model, section: Search, deriver: Deriver, stretch: Stretch
    ) -> tuple[int, Callable[[], Genotype]]:
        """Train a supernet; returns the step of the last record, and what derives the architecture."""
        objective = self.workshop.recipe.objective()
        make_algorithm: Callable[[Model, Objective], Algorithm] = section.algorithm
        pricing = self._pricing(model)
        if pricing is not None:
            objective, make_algorithm = pricing.objective(objective), pricing.algorithm(make_algorithm)

        additions = Additions(section.regularizers, section.perturbation)
        objective, make_algorithm = additions.objective(objective, model), additions.algorithm(make_algorithm)

        def derive() -> Genotype:
            return deriver.derive(model) if pricing is None else pricing.derive(deriver)

        def describe(record: Record) -> Record:
            genotype = derive()
            self.preference.hear(genotype)
            record = with_alphas(record, model, graphs_of(space, genotype))
            record = with_figures(record, truth(self.workshop.standing(genotype)))
            record = with_figures(record, {**stretch.figures, **figures_of(objective)})
            return record if pricing is None else with_figures(record, pricing.figures(genotype))

        guard = self._guard(model, space, objective, derive, stretch, reads_alphas=not deriver.validates)
        last = self.fitting.fit("search", section, model, objective, make_algorithm, describe, guard, stretch)
        return last, derive

    def _pricing(self, model: Model) -> Pricing | None:
        """Prices of the networks that will be retrained, for they are what the cost is of."""
        section = self.workshop.recipe.search
        if section.cost is None:
            return None
        prices = self.workshop.prices(model.choices, section.cost)
        return Pricing.of(model, prices, section.cost(), section.penalty)

    def _guard(
        self,
        model: Model,
        space: Space,
        objective: Objective,
        derive: Callable[[], Genotype],
        stretch: Stretch,
        *,
        reads_alphas: bool,
    ) -> Guard | None:
        """What looks at the search after each epoch; at each of its stages by itself."""
        if not len(model.mixed_ops):
            return None
        recipe, directory, data = self.workshop.recipe, self.workshop.directory, self.workshop.data

        def tell(summary: dict[str, Any]) -> None:
            if recipe.search.stages:
                if summary["first"]:
                    directory.note(f"{stretch.label}: {summary['first']}")
                summary = {**summary, "verdict": f"{stretch.label}: {summary['verdict']}"}
            directory.update_status(health=summary)

        _, valid = self.workshop.examples(recipe.search.valid_fraction)
        subject = Subject(
            model=model,
            space=space,
            task=data.task,
            objective=objective,
            derive=derive,
            valid=valid,
            preprocess=data.preprocess,
            device=self.workshop.device,
            seed=recipe.seed,
            reads_alphas=reads_alphas,
        )
        return SearchHealth(
            recipe.search.health,
            subject,
            told=tell,
            keep=lambda genotype: genotype.save(directory.healthy_genotype),
        )

    def _validate(self, model: Model) -> float:
        """What the model is worth on the held-out examples (see `Validate`)."""
        section, objective = self.workshop.recipe.search, self.workshop.recipe.objective()
        _, valid = self.workshop.examples(section.valid_fraction)
        trainer = (section.stages[-1] if section.stages else section).trainer()
        figures = trainer.evaluate(model, objective, valid, self.workshop.data.preprocess)
        return float(figures["accuracy"] if "accuracy" in figures else -figures["loss"])
