"""A stranger's package, as it would be installed."""

import json
from collections.abc import Callable
from pathlib import Path

from nasframe import load_recipe, run

ALGORITHM = '''
    from typing import final
    from nasframe.core import Algorithm, Batch, Model, Objective, WeightUpdate
    from nasframe.types import Metrics, PositiveFloat

    @final
    class Mine(Algorithm):
        """Trains weights, and says how eager it is.

        Args:
            eagerness: Told in the metrics.
        """

        def __init__(self, model: Model, objective: Objective, *, eagerness: PositiveFloat = 2.5) -> None:
            self._eagerness = eagerness

        def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
            return {**update_weights(train), "eagerness": self._eagerness}
'''
RECIPE = """\
name: stranger
data: {type: synthetic, num_train: 16, num_test: 8, height: 8, width: 8}
space: {type: darts, channels: 2, cells: 3, nodes: 2}
search: {algorithm: {type: stranger, eagerness: 4}, trainer: {epochs: 1, batch_size: 8, max_steps: 1}}
retrain: {trainer: {epochs: 1, batch_size: 8, max_steps: 1}}
"""


def test_an_installed_algorithm_is_run_with_its_settings(
    tmp_path: Path, third_party: Callable[..., Path]
) -> None:
    third_party("stranger", ALGORITHM, algorithms="stranger = Mine")
    recipe = tmp_path / "stranger.yaml"
    recipe.write_text(RECIPE)
    folder = run(load_recipe(recipe), tmp_path / "run").folder
    lines = (folder / "search" / "metrics.jsonl").read_text().splitlines()
    assert any(value == 4 for tag, value in json.loads(lines[0]).items() if tag.endswith("eagerness"))
