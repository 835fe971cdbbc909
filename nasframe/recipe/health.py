"""The health of a search: figures after each epoch, a verdict, and what follows from it."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeAlias, final

import torch

from nasframe.core import (
    BatchStream,
    Genotype,
    Guard,
    Idle,
    IdleEdges,
    Model,
    Objective,
    Preprocess,
    Space,
    Split,
    Subset,
    Task,
    WeightedSum,
    idle_edges,
    mass_of,
    normalized_by_batch,
    normalized_entropy,
    rank_stability,
    reaches_output,
    rise,
    seed_for,
    upper_curvature,
)
from nasframe.core.chance import constant_figures
from nasframe.core.memory import is_out_of_memory
from nasframe.core.model import evaluating
from nasframe.core.ranks import shared
from nasframe.errors import HealthWarning, OutOfMemoryError
from nasframe.recipe.recipe import Health
from nasframe.recipe.verdict import VALIDATED, Evidence, in_words

_TAUS: Final = 5  # rank stabilities that are averaged
_GAP_BATCH: Final = 64
_SAME: Final = 1e-6
_SHARES: Final = 1e-3  # how far a sum of shares may be from 1
CUT: Final = "the derived network does not depend on its input"

Figures: TypeAlias = dict[str, float]
_Weights: TypeAlias = dict[str, list[float]]


@final
@dataclass(frozen=True)
class Subject:
    """A search that is looked at.

    Attributes:
        model: The supernet.
        space: Where is searched.
        task: Shapes of inputs and outputs.
        objective: Loss and metrics.
        derive: The architecture that the supernet prefers now.
        valid: The held-out examples.
        preprocess: From raw inputs to network inputs.
        device: Where the model is.
        seed: The run's seed.
        reads_alphas: Whether the architecture that is kept at the end is read off alphas alone.
    """

    model: Model
    space: Space
    task: Task
    objective: Objective
    derive: Callable[[], Genotype]
    valid: Split
    preprocess: Preprocess
    device: torch.device
    seed: int
    reads_alphas: bool = True


@dataclass
class _Past:
    """What is known of the epochs so far; plain data and tensors.

    Attributes:
        initial: The candidates' weights before the first epoch.
        validated: What the validation of the first epoch told; empty if nobody knows.
        weights: Those after the last epoch.
        taus: The newest rank stabilities.
        eigenvalues: The newest (epoch, eigenvalue).
        bad: Epochs in a row, to the last, whose architecture is no good one.
        best: The last good epoch; 0 if there was none.
        collapsed_from: The last good epoch before the newest collapse; 0 if there was none.
        kept: Genotype and upper-level state of the epochs that may be returned to.
        first: The first verdict of a collapse; empty if there was none.
        returns: Each epoch after which the alphas went back, and where to.
        ended: Whether the search was ended.
    """

    initial: _Weights = field(default_factory=dict)
    validated: Figures = field(default_factory=dict)
    weights: _Weights = field(default_factory=dict)
    taus: list[float] = field(default_factory=list)
    eigenvalues: list[tuple[int, float]] = field(default_factory=list)
    bad: int = 0
    best: int = 0
    collapsed_from: int = 0
    kept: dict[int, dict[str, Any]] = field(default_factory=dict)
    first: str = ""
    returns: list[tuple[int, int]] = field(default_factory=list)
    ended: bool = False


@final
@dataclass(frozen=True)
class _Look:
    """What one look at the search saw."""

    validated: Figures
    figures: Figures
    genotype: Genotype
    edges: list[IdleEdges]
    weights: _Weights
    tau: float | None
    reaches: bool | None
    eigenvalue: float | None
    is_last: bool


@final
class SearchHealth(Guard):
    """Looks at a search as its recipe says.

    Args:
        settings: Of the recipe.
        subject: The search.
        told: Hears `summary` when the verdict changes its kind, and at the end.
        keep: Hears the genotype of the last good epoch when the search has collapsed.
    """

    def __init__(
        self,
        settings: Health,
        subject: Subject,
        told: Callable[[dict[str, Any]], None],
        keep: Callable[[Genotype], None],
    ) -> None:
        self._settings, self._subject, self._told, self._keep = settings, subject, told, keep
        self._idle = Idle.of(subject.model)
        self._weighted = all(isinstance(op, WeightedSum) for op in subject.model.mixed_ops.values())
        self._past = _Past(initial=_plain(subject.model.choice_weights()))
        self._reached: tuple[Genotype, bool | None] | None = None
        self._look: _Look | None = None
        self._verdict = ""

    @property
    def has_ended(self) -> bool:
        return self._past.ended

    @property
    def left_out(self) -> dict[str, str]:
        """Which figures there are not, and why."""
        found = {}
        if not (self._idle.skips or self._idle.zeros):
            found["skip, none"] = "no candidate of the space declares that it computes nothing"
        if self._reached is not None and self._reached[1] is None:
            found["cut"] = "inputs are tokens, or the network cannot be computed without numbers"
        whole = "mixtures are not all weighted sums of their candidates"
        for figure, every in (
            ("gap", self._settings.gap_every),
            ("eigenvalue", self._settings.eigenvalue_every),
        ):
            if every is None:
                found[figure] = f"search.health.{figure}_every is null"
            elif not self._weighted or not len(self._subject.valid):
                found[figure] = whole if not self._weighted else "no examples are held out"
        return found

    def summary(self) -> dict[str, Any]:
        """The verdict, and what it rests on."""
        past = self._past
        return {
            "verdict": self._verdict,
            "collapsed": bool(past.first),
            "first": past.first,
            "best_epoch": past.collapsed_from,
            "action": self._settings.action,
            "returns": [list(each) for each in past.returns],
            "left_out": self.left_out,
        }

    def measure(self, epoch: int, metrics: Mapping[str, float], *, is_last: bool) -> Figures:
        subject = self._subject
        genotype = subject.derive()
        weights = {name: weights_K.cpu() for name, weights_K in subject.model.choice_weights().items()}
        edges, reaches = idle_edges(self._idle, genotype), self._reaches(genotype)
        figures = self._figures_of_edges(edges, weights)
        entropies = [normalized_entropy(weights_K) for weights_K in weights.values()]
        figures["health/entropy"] = sum(entropies) / len(entropies)
        before = {name: torch.tensor(each) for name, each in self._past.weights.items()}
        tau = rank_stability(before, weights)
        if tau is not None:
            taus = [*self._past.taus, tau][-_TAUS:]
            figures["health/rank_stability"] = sum(taus) / len(taus)
        if reaches is not None:
            figures["health/cut"] = float(not reaches)
        due = self.costly(epoch, is_last=is_last)
        if "gap" in due:
            figures.update(self._gap(genotype))
        eigenvalue = self._eigenvalue() if "eigenvalue" in due else None
        if eigenvalue is not None:
            figures["health/eigenvalue"] = eigenvalue
        look = _Look(
            {name: metrics[name] for name in VALIDATED if name in metrics},
            dict(figures),
            genotype,
            edges,
            _plain(weights),
            tau,
            reaches,
            eigenvalue,
            is_last,
        )
        # ranks all measure, for their batch norms may talk to each other, and judge by the first's numbers
        figures, self._look = shared(lambda: (figures, look))
        return figures

    def costly(self, epoch: int, *, is_last: bool) -> frozenset[str]:
        settings, left_out = self._settings, self.left_out
        every = {"gap": settings.gap_every, "eigenvalue": settings.eigenvalue_every}
        due = {figure for figure, epochs in every.items() if epochs is not None and epoch % epochs == 0}
        return frozenset(due | ({"gap"} if is_last else set())).difference(left_out)

    def _figures_of_edges(self, edges: list[IdleEdges], weights: Mapping[str, torch.Tensor]) -> Figures:
        figures = {}
        choices = self._subject.model.choices
        for figure, idle in (("skip", self._idle.skips), ("none", self._idle.zeros)):
            masses = mass_of(idle, choices, weights)
            for each in edges:
                if each.cell in masses:
                    count = each.skips if figure == "skip" else each.zeros
                    figures[_tag(f"{figure}_share", each.cell)] = count / each.edges
            figures.update({_tag(f"{figure}_mass", cell): mass for cell, mass in masses.items()})
        return figures

    def _reaches(self, genotype: Genotype) -> bool | None:
        if self._reached is None or self._reached[0] != genotype:
            subject = self._subject
            self._reached = genotype, reaches_output(subject.space, genotype, subject.task, self._idle)
        return self._reached[1]

    def _gap(self, genotype: Genotype) -> Figures:
        """What the supernet and the derived path in it reach on some held-out examples."""
        model = self._subject.model
        settled = {
            name: torch.tensor(
                [
                    float(not model.decides(name) or each in genotype.choices.get(name, ()))
                    for each in model.choices[name].candidates
                ]
            ).to(weights_K)
            for name, weights_K in model.choice_weights().items()
        }
        whole = self._figures()
        with model.mixed_by(settled):
            path = self._figures()
        name = "accuracy" if "accuracy" in whole else "loss"
        lost = whole[name] - path[name]
        return {
            f"health/supernet_{name}": whole[name],
            f"health/path_{name}": path[name],
            "health/gap": lost if name == "accuracy" else -lost,
        }

    @torch.no_grad()
    def _figures(self) -> Figures:
        """Loss and metrics of the model, batch norms by the statistics of each batch."""
        subject = self._subject
        totals: Figures = {}
        with evaluating(subject.model), normalized_by_batch(subject.model):
            batches = self._batches("gap", _GAP_BATCH, self._settings.gap_fraction)
            for batch in batches.epoch(0):
                outputs = subject.model(batch.inputs)
                values = {"loss": subject.objective.loss(outputs, batch.targets)}
                values.update(subject.objective.metrics(outputs, batch.targets))  # type: ignore[arg-type]
                for name, value in values.items():
                    totals[name] = totals.get(name, 0.0) + float(value) / len(batches)
        return totals

    def _batches(self, figure: str, batch_size: int, fraction: float = 1.0) -> BatchStream:
        """Full batches of the same held-out examples each time."""
        subject = self._subject
        count = max(math.ceil(fraction * len(subject.valid)), min(2, len(subject.valid)))
        return BatchStream(
            Subset(subject.valid, torch.arange(count)),
            subject.preprocess,
            batch_size=batch_size,
            device=subject.device,
            training=True,
            seed=subject.seed,
            purpose=("health", figure),
            skip_unreadable=True,  # those that a trainer does not skip have ended the run in its validation
        )

    def _eigenvalue(self) -> float:
        subject, settings = self._subject, self._settings
        batch = next(self._batches("eigenvalue", settings.eigenvalue_examples).epoch(0))
        try:
            return upper_curvature(
                subject.model,
                subject.objective,
                batch,
                num_products=settings.eigenvalue_products,
                seed=seed_for(subject.seed, "health", "eigenvalue"),
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"search.health: {len(batch)} examples must fit the memory of {subject.device} in a backward "
                "pass through a backward pass, but do not; set search.health.eigenvalue_examples="
                f"{len(batch) // 2 or 1}, or leave eigenvalue_every out"
            ) from error

    def judge(self, epoch: int, copy_upper: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        look, past = self._look, self._past
        assert look is not None
        self._take(epoch, look, copy_upper)
        trouble, best = self._collapse()
        earlier = None
        if not trouble:
            self._verdict = in_words(_now(epoch, look), past.first, self._evidence(epoch, look))
        else:
            kept = f"best kept at epoch {best}" if best else "no epoch before was better"
            self._verdict = f"collapsing: {trouble} at epoch {epoch}; {kept}"
            past.collapsed_from = best
            earlier = self._act(epoch, best)
            if not past.first:
                past.first = self._verdict
                warnings.warn(f"search: {self._verdict}", HealthWarning, stacklevel=2)
            if best in past.kept:
                self._keep(Genotype.from_json(past.kept[best]["genotype"]))
        if trouble or look.is_last:
            self._told(self.summary())
        return earlier

    def _take(self, epoch: int, look: _Look, copy_upper: Callable[[], dict[str, Any]]) -> None:
        """Let the past grow by an epoch, and forget what cannot matter any more."""
        past, settings = self._past, self._settings
        if epoch == 1:
            past.validated = look.validated
        past.weights = look.weights
        past.taus = [*past.taus, *([] if look.tau is None else [look.tau])][-_TAUS:]
        searched = _differ(look.weights, past.initial)  # else only weights were trained
        if searched:
            is_bad = look.reaches is False or any(each.share > settings.max_idle for each in look.edges)
            past.bad = past.bad + 1 if is_bad else 0
            past.best = past.best if is_bad else epoch
        if searched and look.eigenvalue is not None and math.isfinite(look.eigenvalue):
            past.eigenvalues.append((epoch, look.eigenvalue))
            past.eigenvalues = past.eigenvalues[-2 * settings.eigenvalue_window :]
        upper = copy_upper() if settings.action != "tell" else None
        past.kept[epoch] = {"genotype": look.genotype.to_json(), "upper": upper}
        needed = {past.best, *(each for each, _ in past.eigenvalues)}
        past.kept = {each: kept for each, kept in past.kept.items() if each in needed}

    def _collapse(self) -> tuple[str, int]:
        """Why the search has collapsed, and its last good epoch (0: none); no reason if it has not."""
        look, past, settings = self._look, self._past, self._settings
        assert look is not None
        if past.bad >= settings.patience:
            worst = max(look.edges, key=lambda each: each.share, default=None)
            return CUT if look.reaches is False or worst is None else str(worst), past.best
        window, values = settings.eigenvalue_window, [value for _, value in past.eigenvalues]
        rose = rise(values, window, settings.eigenvalue_ratio)
        if rose is None or look.eigenvalue is None:
            return "", past.best
        epoch, _ = past.eigenvalues[-window - 1]
        return f"the largest eigenvalue rose from {rose[0]:.3g} to {rose[1]:.3g}", epoch

    def _evidence(self, epoch: int, look: _Look) -> Evidence:
        """What the search has learned; what takes time to find out, at its end alone."""
        subject, past = self._subject, self._past
        health = dict(look.figures)
        learns = any(weight.requires_grad for weight in subject.model.parameters_at("upper"))
        are_shares = all(abs(sum(weights) - 1) < _SHARES for weights in look.weights.values())
        if not are_shares:
            del health["health/entropy"]
        constant: Figures = {}
        if look.is_last and len(subject.valid):
            constant = constant_figures(subject.objective, subject.valid, subject.task.num_outputs)
        gap = (
            self._batches("gap", _GAP_BATCH, self._settings.gap_fraction) if "health/gap" in health else None
        )
        return Evidence(
            epoch=epoch,
            validated=look.validated,
            health=health,
            first=past.validated,
            constant=constant,
            num_valid=len(subject.valid),
            num_gap=0 if gap is None else len(gap) * gap.batch_size,
            reads_alphas=subject.reads_alphas and learns,
            has_moved=_differ(look.weights, past.initial),
        )

    def _act(self, epoch: int, best: int) -> dict[str, Any] | None:
        """Do what the recipe wants; where there is no good epoch to return to, nothing."""
        past, action = self._past, self._settings.action
        if action == "tell" or not best:
            return None
        upper: dict[str, Any] = past.kept[best]["upper"]
        past.returns.append((epoch, best))
        past.ended = action == "stop"
        doing = "the search ends with its alphas" if past.ended else "the search goes on from its alphas"
        self._verdict = f"{self._verdict}; {doing}"
        past.bad, past.best = 0, best
        past.eigenvalues = [each for each in past.eigenvalues if each[0] <= best]
        return upper

    def state_dict(self) -> dict[str, Any]:
        return {**asdict(self._past), "verdict": self._verdict}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        own = dict(state)
        self._verdict = own.pop("verdict")
        self._past = _Past(**own)


def _now(epoch: int, look: _Look) -> str:
    """What the edges are that have no operation."""
    shares = " and ".join(str(each) for each in look.edges if each.share)
    if look.edges and not shares:
        shares = "every edge has an operation"
    if look.reaches is False:
        shares = CUT
    return f"{shares} at epoch {epoch}" if shares else f"epoch {epoch}"


def _plain(weights: Mapping[str, torch.Tensor]) -> _Weights:
    return {name: weights_K.tolist() for name, weights_K in weights.items()}


def _differ(one: _Weights, other: _Weights) -> bool:
    """Whether these are other weights, and not the same by another device."""
    return one.keys() != other.keys() or any(
        abs(a - b) > _SAME for name in one for a, b in zip(one[name], other[name], strict=True)
    )


def _tag(figure: str, cell: str) -> str:
    return f"health/{figure}/{cell}" if cell else f"health/{figure}"
