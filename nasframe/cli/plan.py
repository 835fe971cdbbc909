"""The verb that tells what a recipe takes, before it is run."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasframe.cli.arguments import AsJson, Outside, Overrides, Plugins, RecipeName
from nasframe.cli.output import print_json, print_table, wrapped
from nasframe.cli.startup import uncollected
from nasframe.quantity import spell_amount, spell_bytes, spell_count, spell_seconds

if TYPE_CHECKING:
    from nasframe.recipe import Plan, Survey
    from nasframe.recipe.planning import Fusion, StagePlan
    from nasframe.recipe.rehearsal import Rehearsal


def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Count only; run no step.")] = False,
    plugin: Plugins = None,
    outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Tell what a run would take, by real steps. Exit code 1 if its memory or disk does not suffice."""
    with uncollected():
        from nasframe.recipe import load_recipe, survey
        from nasframe.recipe import plan as plan_recipe
        from nasframe.recipe.allocator import keep_freed_memory

        complete = load_recipe(recipe, overrides or (), plugin or (), outside=outside)
    found = survey(complete, _say, measure=not no_measure)
    if not as_json:
        _show_survey(found)
        if found.cost is None and complete.genotype is None and (cost := complete.search.cost) is not None:
            typer.echo(f"{cost.name} is not measured, nor the budget checked: leave out --no-measure\n")
    made = None
    if not no_measure:
        keep_freed_memory()  # as a run does
        made = plan_recipe(complete, found, plugin or (), _say)
    if as_json:
        print_json({"name": complete.name, **_survey_as_json(found), **_plan_as_json(made)})
    elif made is not None:
        _show_plan(made, found.retrained)
    raise typer.Exit(0 if made is None or made.fits else 1)


def _say(text: str) -> None:
    typer.echo(f"{text} …", err=True)


def _show_survey(found: "Survey") -> None:
    counts = {
        "architectures": found.architectures,
        "choices": found.choices,
        "alphas": found.alphas,
        "weights": found.weights,
    }
    if found.architectures is not None:
        rows = [[name, spell_count(count)] for name, count in counts.items() if count is not None]
        if found.fusion is not None:
            rows.append(["nodes computed together", _spell_fusion(found.fusion)])
        print_table(["search space", ""], rows)
        typer.echo()
    if found.stages:
        rows = [
            [f"{number}/{len(found.stages)}", spell_count(each.candidates), spell_count(each.alphas)]
            for number, each in enumerate(found.stages, 1)
        ]
        print_table(["stage of the search", "candidates", "alphas"], rows)
        typer.echo()
    _show_networks(found)
    typer.echo()


def _show_networks(found: "Survey") -> None:
    """The networks; with what they cost, where that is none of the counts."""
    networks, cost = found.networks, found.cost
    header = ["network", "multiply-adds", "parameters"]
    rows = [
        [name, spell_count(each.multiply_adds), spell_count(each.parameters)]
        for name, each in networks.items()
    ]
    is_count = any(
        all(each.cost == getattr(each, count) for each in networks.values())
        for count in ("multiply_adds", "parameters")
    )
    if cost is not None and not is_count:
        header.append(cost.name)
        for row, each in zip(rows, networks.values(), strict=True):
            row.append("" if each.cost is None else spell_amount(each.cost, cost.unit))
    print_table(header, rows)
    if found.unknown:
        typer.echo(f"smallest and largest are not known: {found.unknown}")
    if cost is not None:
        least, most = (spell_amount(each, cost.unit) for each in (cost.least, cost.most))
        verdict = f"; {cost.verdict}" if cost.verdict else ""
        typer.echo(wrapped(f"{cost.name}: architectures cost {least} to {most}{verdict}"))


def _spell_fusion(fusion: "Fusion") -> str:
    if not fusion.nodes:
        return "none: no node adds mixtures up"
    apart = ", ".join(f"{count} {name}" for name, count in fusion.apart.items())
    return f"{fusion.fused} of {fusion.nodes}" + (f", but for {apart}" if apart else "")


def _show_plan(made: "Plan", retrained: str) -> None:
    rows = [row for stage in made.stages for row in _rows(stage)]
    print_table(["stage", "steps", "a step", "validation", "health", "peak memory", "estimate"], rows)
    measured = ", ".join(
        f"{sum(phase.num_measured for phase in stage.rehearsal.phases)} of the {stage.name}"
        for stage in made.stages
        if stage.rehearsal is not None
    )
    typer.echo()
    if made.seconds is not None:
        typer.echo(
            f"in all {spell_seconds(made.seconds)} on {made.device} in {_precisions(made)}: "
            "an estimate from measured steps"
        )
        typer.echo(f"  ({measured}), retraining the {retrained} network; without test and report")
    _show_active(made)
    for text in _verdicts(made):
        typer.secho(text, fg="red" if text.startswith("does not fit") else None)


def _show_active(made: "Plan") -> None:
    """What settings come to that depend on the device."""
    from nasframe.core.active import active_table

    found = {stage.name: stage.rehearsal.active for stage in made.stages if stage.rehearsal is not None}
    header, rows = active_table(found)
    if rows:
        typer.echo()
        print_table(header, rows)
        typer.echo()


def _precisions(made: "Plan") -> str:
    """What the stages compute in."""
    by_stage = {stage.name: stage.rehearsal.precision for stage in made.stages if stage.rehearsal is not None}
    if len(set(by_stage.values())) == 1:
        return next(iter(by_stage.values()))
    return ", ".join(f"{precision} ({name})" for name, precision in by_stage.items())


def _rows(stage: "StagePlan") -> Iterator[list[str]]:
    found = stage.rehearsal
    if found is None:
        yield [stage.name, "", "", "", "", "too much", ""]
        return
    peak = "not known" if found.peak_bytes is None else spell_bytes(found.peak_bytes)
    whole = spell_seconds(found.seconds)
    validation = (
        f"{found.num_epochs} × {spell_seconds(found.validation_seconds)}" if found.num_validated else "none"
    )
    health = spell_seconds(found.health_seconds) if found.health_seconds else "none"
    phases = [phase for phase in found.phases if phase.num_steps]
    for index, phase in enumerate(phases):
        step = [spell_count(phase.num_steps), spell_seconds(phase.seconds_per_step)]
        if index:
            yield [f"  from epoch {phase.first_epoch + 1}", *step, "", "", "", ""]
        else:
            yield [stage.name, *step, validation, health, peak, whole]


def _verdicts(made: "Plan") -> Iterator[str]:
    for stage in made.stages:
        if stage.shortage:
            yield f"does not fit: {stage.name}: {stage.shortage}{_free(stage.rehearsal)}"
            yield from (f"  {advice}" for advice in stage.advice)
    if not made.fits_disk:
        yield f"does not fit: checkpoints take more than is free in {made.disk_folder}"
        yield "  free some of it, or run it elsewhere by --out"
    if made.disk_bytes is not None:
        sizes = f"{spell_bytes(made.disk_bytes)}, {spell_bytes(made.disk_free_bytes)} are free"
        yield f"checkpoints take up to {sizes} in {made.disk_folder}"
    if made.fits:
        yield f"fits {made.device}{_free(made.stages[0].rehearsal)}"


def _free(found: "Rehearsal | None") -> str:
    if found is None or found.free_bytes is None:
        return ""
    return f", where {spell_bytes(found.free_bytes)} of memory were free"


def _survey_as_json(found: "Survey") -> dict[str, Any]:
    networks = {
        name: {
            "multiply_adds": network.multiply_adds,
            "parameters": network.parameters,
            "cost": network.cost,
            "genotype": {choice: list(kept) for choice, kept in network.genotype.choices.items()},
        }
        for name, network in found.networks.items()
    }
    return {
        "architectures": found.architectures,
        "choices": found.choices,
        "alphas": found.alphas,
        "weights": found.weights,
        "networks": networks,
        "unknown": found.unknown,
        "fusion": None if found.fusion is None else asdict(found.fusion),
        "search_stages": [asdict(each) for each in found.stages],
        "retrained": found.retrained,
        "cost": None if found.cost is None else {**asdict(found.cost), "verdict": found.cost.verdict},
    }


def _plan_as_json(made: "Plan | None") -> dict[str, Any]:
    if made is None:
        return {}
    return {
        "device": made.device,
        "stages": {stage.name: _stage_as_json(stage) for stage in made.stages},
        "seconds": made.seconds,
        "disk": {
            "folder": str(made.disk_folder),
            "bytes": made.disk_bytes,
            "free_bytes": made.disk_free_bytes,
        },
        "fits": made.fits,
    }


def _stage_as_json(stage: "StagePlan") -> dict[str, Any]:
    found = stage.rehearsal
    measured = (
        {} if found is None else {**asdict(found), "num_steps": found.num_steps, "seconds": found.seconds}
    )
    return {**measured, "shortage": stage.shortage, "advice": list(stage.advice)}
