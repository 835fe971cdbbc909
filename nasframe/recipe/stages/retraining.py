"""The retraining stage: trains the network that was found from scratch, by one seed or several."""

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
        if recipe.retrain.seeds > 1:
            repetition = Repetition(recipe, directory.stage("retrain"))
            repetition.run(partial(self._retrained, space, genotype), directory.weights)
        else:
            self._train(space, genotype, Stretch("retrain", recipe.seed, "retrain"), directory.weights)
        self._describe(genotype)

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
