"""What a network reaches when it is trained."""

from typing import Annotated, ClassVar, final

from annotated_types import Interval

from nasframe.core import Genotype, Score, Testbed, figure_of, scores


@scores.register("retraining")
@final
class Retraining(Score):
    """Trains a network of `space` by ``search.trainer``, and measures it on held-out examples.

    A smaller budget trains for as many epochs less. All networks start from new weights, drawn from the
    same random state, and see the same batches.

    Args:
        metric: What is measured: a metric of the objective, or `loss` for its negative.
        examples: Share of the training examples that it is trained on.
    """

    uses_valid: ClassVar[bool] = True
    takes_budgets: ClassVar[bool] = True

    def __init__(
        self,
        testbed: Testbed,
        *,
        metric: str = "accuracy",
        examples: Annotated[float, Interval(gt=0, le=1)] = 1.0,
    ) -> None:
        self._testbed, self._metric, self._examples = testbed, metric, examples

    @property
    def figure(self) -> str:
        return self._metric

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        model = self._testbed.network(genotype)
        metrics = self._testbed.train_network(model, genotype, budget=budget, examples=self._examples)
        return figure_of(metrics, self._metric, "retraining")
