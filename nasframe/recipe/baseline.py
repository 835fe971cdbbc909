"""A network of the field beside the found one: equal in cost, trained alike, and compared."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from nasframe.core import Genotype, Prices, Space
from nasframe.core.statistic import difference
from nasframe.errors import UnsupportedError
from nasframe.quantity import spell_amount
from nasframe.suggestion import did_you_mean


def family_of(space: Space, name: str) -> Sequence[Genotype]:
    """The networks of a family that a space names.

    Raises:
        UnsupportedError: It names no such family.
    """
    families = space.baselines()
    if name not in families:
        known = ", ".join(f"`{each}`" for each in families) or "none"
        advice = did_you_mean(name, families) or "leave it out, or search in another space, such as mobile"
        raise UnsupportedError(
            f"retrain.baseline: must be a family that the space names ({known}), got `{name}`; {advice}"
        )
    return families[name]


def matched(space: Space, name: str, prices: Prices, found: Genotype) -> Genotype:
    """The cheapest of a family that costs no less than what was found; the dearest if all cost less.

    So the found network is not ahead because it may take more.

    Raises:
        UnsupportedError: The space names no such family.
    """
    cost = prices.of(found)
    ordered = sorted(family_of(space, name), key=prices.of)
    return next((each for each in ordered if prices.of(each) >= cost), ordered[-1])


@final
@dataclass(frozen=True)
class Contender:
    """A network that was trained to be compared.

    Attributes:
        name: What it is called.
        genotype: Its architecture.
        figures: In the test, of each training.
        parameters: How many it has.
        cost: By the prices of its parts; None where the search had no cost.
        measured_cost: Of the whole network, in turns with the other; None of a cost that is not measured.
    """

    name: str
    genotype: Genotype
    figures: Sequence[Mapping[str, float]]
    parameters: float
    cost: float | None
    measured_cost: float | None

    @property
    def costs(self) -> dict[str, float]:
        """What it costs, as figures of a run."""
        named = {"derived_cost": self.cost, "measured_cost": self.measured_cost}
        return {name: value for name, value in named.items() if value is not None}

    def values(self, figure: str) -> list[float]:
        """A figure of each training."""
        return [each[figure] for each in self.figures]

    def plain(self, figure: str) -> dict[str, Any]:
        """What the report has of it."""
        values = self.values(figure)
        return {
            "network": self.name,
            figure: statistics.fmean(values),
            "std": statistics.stdev(values) if len(values) > 1 else None,
            "values": values,
            "cost": self.cost,
            "measured_cost": self.measured_cost,
            "parameters": self.parameters,
            "genotype": json.loads(self.genotype.to_json()),
        }


@final
@dataclass(frozen=True)
class Comparison:
    """The found network and a baseline, for the report.

    Attributes:
        found: What the search found.
        baseline: The network of the field.
        cost: The cost that both are equal in, by name.
        unit: Of the cost; empty where it has none.
        prices: Of the parts of both.
    """

    found: Contender
    baseline: Contender
    cost: str
    unit: str
    prices: Prices

    @property
    def figure(self) -> str:
        """What is compared: the accuracy, or the loss where there is none."""
        return "test_accuracy" if "test_accuracy" in self.found.figures[0] else "test_loss"

    def plain(self) -> dict[str, Any]:
        """What the report has of it."""
        return {
            "name": self.baseline.name,
            "cost": self.cost,
            "unit": self.unit,
            "figure": self.figure,
            "sentence": self.sentence(),
            "outcome": self.outcome(),
            "why": self.why(),
            "networks": [each.plain(self.figure) for each in (self.found, self.baseline)],
            "choices": self._differing(),
        }

    def _differing(self) -> list[dict[str, Any]]:
        """The choices that keep something else, or at another price, with what of the cost lies with each."""
        pairs = self.found.genotype, self.baseline.genotype
        shares = [self.prices.shares(each) for each in pairs]
        rows = []
        for choice in dict.fromkeys(name for each in pairs for name in each.choices):
            found, baseline = (
                [[name, share.get((choice, name), 0.0)] for name in each.choices.get(choice, ())]
                for each, share in zip(pairs, shares, strict=True)
            )
            if found != baseline:
                rows.append({"choice": choice, "found": found, "baseline": baseline})
        return rows

    def sentence(self) -> str:
        """What both reach, which one is better, and whether that is more than chance."""
        return f"{self._told(self.found)}, {self._told(self.baseline)}; {self.outcome()}"

    def outcome(self) -> str:
        """By how much the found one is better, and whether that is more than chance."""
        gain = difference(self.found.values(self.figure), self.baseline.values(self.figure))
        sign, points = (1, "points") if self.figure == "test_accuracy" else (-1, "of loss")
        scale = 100 if self.figure == "test_accuracy" else 1
        worth = f"{abs(scale * gain.mean):.2f} {points} {'better' if sign * gain.mean > 0 else 'worse'}"
        if gain.low is None or gain.high is None:
            return f"{worth} in one training of each, which may be chance (see retrain.seeds)"
        interval = f"95 % interval {scale * gain.low:+.2f} to {scale * gain.high:+.2f}"
        if gain.low <= 0 <= gain.high:
            return f"{worth} on average, which {gain.count} seeds cannot tell from chance ({interval})"
        return f"{worth}, more than {gain.count} seeds differ by chance ({interval})"

    def why(self) -> str:
        """Where the found network saves and spends most, by its parts; a hundredth of the whole counts."""
        more = {
            row["choice"]: sum(cost for _, cost in row["found"]) - sum(cost for _, cost in row["baseline"])
            for row in self._differing()
        }
        least, told = self.prices.of(self.baseline.genotype) / 100, []
        if more and more[saved := min(more, key=more.__getitem__)] <= -least:
            told.append(f"saves {spell_amount(-more[saved], self.unit)} at {saved}{self._instead(saved)}")
        if more and more[spent := max(more, key=more.__getitem__)] >= least:
            told.append(
                f"spends {spell_amount(more[spent], self.unit)} more at {spent}{self._instead(spent)}"
            )
        return f"by its parts, it {' and '.join(told)}" if told else ""

    def _instead(self, choice: str) -> str:
        """What stands there and would stand there, where that differs."""
        found, baseline = (
            " + ".join(each.genotype.choices.get(choice, ())) or "nothing"
            for each in (self.found, self.baseline)
        )
        return "" if found == baseline else f" ({found} instead of {baseline})"

    def _told(self, contender: Contender) -> str:
        mean = statistics.fmean(contender.values(self.figure))
        figure = f"{mean:.1%}" if self.figure == "test_accuracy" else f"a loss of {mean:.4g}"
        cost = contender.cost if contender.measured_cost is None else contender.measured_cost
        at = "" if cost is None else f" at {spell_amount(cost, self.unit)}"
        return f"{contender.name}: {figure}{at}"
