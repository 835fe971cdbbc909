"""The retraining stages: train the found network from scratch, by one seed or several, and a baseline."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

import torch

from nasframe.core import Genotype, Model, Record, Space, algorithms, derived, seed_for
from nasframe.core.storage import write_whole
from nasframe.core.tensor_file import save_weights
from nasframe.errors import UnsupportedError
from nasframe.recipe.baseline import matched
from nasframe.recipe.confusion import Counted, drawn_confusion
from nasframe.recipe.model_folder import describe, set_weights
from nasframe.recipe.progression import Stretch
from nasframe.recipe.repetition import Repetition
from nasframe.recipe.stages.fitting import Fitting
from nasframe.recipe.stages.workshop import Workshop
from nasframe.types import Metrics


@final
@dataclass(frozen=True)
class Retraining:
    """Trains the derived network, and leaves its weights in the run directory.

    Attributes:
        workshop: Of the run.
        fitting: Trains.
    """

    workshop: Workshop
    fitting: Fitting

    def run(self) -> None:
        """Write ``model.safetensors``, and what its network is built from where that is plain data."""
        recipe, directory = self.workshop.recipe, self.workshop.directory
        space: Space = recipe.retrain.space(self.workshop.data.task)
        genotype = Genotype.load(directory.genotype)
        if (key := space.key(genotype)) is not None:
            directory.update_status(architecture=key)
        self._train_by_seeds("retrain", space, genotype)
        self._describe(genotype)

    def run_baseline(self) -> None:
        """Train a network of the baseline's family that costs what the found one costs, in the same way."""
        recipe, directory = self.workshop.recipe, self.workshop.directory
        section = recipe.retrain
        if section.baseline is None or recipe.search.cost is None:
            return
        space: Space = section.space(self.workshop.data.task)
        found, prices = Genotype.load(directory.genotype), self.workshop.retrained_prices(recipe.search.cost)
        baseline = matched(space, section.baseline, prices, found)
        directory.stage("baseline")
        baseline.save(directory.baseline)
        self._train_by_seeds("baseline", space, baseline)

    def _train_by_seeds(self, folder: str, space: Space, genotype: Genotype) -> None:
        recipe, directory = self.workshop.recipe, self.workshop.directory
        weights = directory.weights_in(folder)
        if recipe.retrain.seeds > 1:
            repetition = Repetition(recipe, directory.stage(folder))
            repetition.run(partial(self._retrained, space, genotype), weights)
        else:
            stretch = Stretch(folder, recipe.seed, folder, records=folder)
            self._train(space, genotype, stretch, weights)

    def _retrained(self, space: Space, genotype: Genotype, stretch: Stretch, weights: Path) -> Metrics:
        """What a network is worth on held-out examples after a training, see `Repetition`."""
        section = self.workshop.recipe.retrain
        model = self._train(space, genotype, stretch, weights)
        _, valid = self.workshop.examples(section.valid_fraction)
        preprocess = self.workshop.data.preprocess
        return section.trainer().evaluate(model, section.objective(), valid, preprocess)

    def _train(self, space: Space, genotype: Genotype, stretch: Stretch, weights: Path) -> Model:
        """Train the derived network by a seed, and write its weights."""
        section = self.workshop.recipe.retrain
        torch.manual_seed(seed_for(stretch.seed, "retrain", "init"))
        model = derived(space, genotype, recomputed=section.recomputed)
        if section.inherit:
            set_weights(model, self.workshop.directory.inherited)
        algorithm = algorithms.component("weights_only")
        objective = Counted(section.objective(), model)

        def with_confusion(record: Record) -> Record:
            drawn = drawn_confusion(objective.take(), self.workshop.data.class_names, "valid")
            return replace(record, heat_maps=drawn)

        self.fitting.fit("retrain", section, model, objective, algorithm, with_confusion, stretch=stretch)
        save_weights(model.state_dict(), weights)
        return model

    def _describe(self, genotype: Genotype) -> None:
        """Make a folder of the network that it can be built from without the data, if that is plain."""
        recipe, section = self.workshop.recipe, self.workshop.recipe.retrain
        try:
            found = describe(recipe.name, self.workshop.data, section.space, section.objective, genotype)
        except UnsupportedError:
            return  # whoever wants such a folder is told why
        write_whole(self.workshop.directory.description, json.dumps(found, indent=2) + "\n")
