"""The verbs that read a recipe and do nothing with it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasframe.cli.arguments import AsJson, Outside, Overrides, Plugins, RecipeName
from nasframe.cli.completion import complete_recipe
from nasframe.cli.output import flow, print_json, problem_as_json
from nasframe.cli.startup import uncollected
from nasframe.errors import RecipeError

if TYPE_CHECKING:
    from nasframe.recipe.provenance import Difference, Sourced
    from nasframe.recipe.tree import KeyPath


def validate(
    recipe: RecipeName,
    overrides: Overrides = None,
    plugin: Plugins = None,
    outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Find all problems of a recipe; nothing is run."""
    problems = []
    try:
        with uncollected():
            from nasframe.recipe import load_recipe

            load_recipe(recipe, overrides or (), plugin or (), outside=outside)
    except RecipeError as error:
        if not as_json:
            raise
        problems = error.problems
    if as_json:
        print_json({"valid": not problems, "problems": [problem_as_json(each) for each in problems]})
        raise typer.Exit(2 if problems else 0)
    typer.echo(f"{recipe} is valid")


def config(
    recipe: RecipeName,
    overrides: Overrides = None,
    plugin: Plugins = None,
    provenance: Annotated[
        bool, typer.Option("--provenance", help="Tell where each value was written.")
    ] = False,
    minimal: Annotated[
        bool, typer.Option("--minimal", help="Leave out what the defaults say; it loads to the same.")
    ] = False,
    diff: Annotated[
        str | None,
        typer.Option(
            "--diff",
            metavar="OTHER",
            help="Print only what differs from another recipe.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Print the complete recipe, all defaults filled in."""
    from nasframe.recipe.loading import load_with_places
    from nasframe.recipe.minimal import minimal_mapping
    from nasframe.recipe.provenance import dotted, origin_of, sourced_as_json, sourced_values
    from nasframe.recipe.schema import recipe_to_mapping
    from nasframe.recipe.yaml_text import dump_annotated, dump_yaml

    if diff is not None and (provenance or minimal):
        raise typer.BadParameter("--diff prints values with their places; leave the other options out")
    complete, places = load_with_places(recipe, overrides or (), plugin or (), check=False, outside=outside)
    if diff is not None:
        other = load_with_places(diff, (), plugin or (), check=False, outside=outside)
        _print_differences(sourced_values(*other), sourced_values(complete, places), as_json)
        return
    mapping = minimal_mapping(complete) if minimal else recipe_to_mapping(complete)
    if provenance and as_json:
        values = sourced_values(complete, places).items()
        print_json([{"path": dotted(path), **sourced_as_json(value)} for path, value in values])
    elif as_json:
        print_json(mapping)
    elif provenance:
        comments = {path: origin_of(place) for path, place in places.items()}
        typer.echo(dump_annotated(mapping, comments), nl=False)
    else:
        typer.echo(dump_yaml(mapping), nl=False)


def _print_differences(
    left: "Mapping[KeyPath, Sourced]", right: "Mapping[KeyPath, Sourced]", as_json: bool
) -> None:
    from nasframe.recipe.provenance import differences, dotted, origin_of

    found = list(differences(left, right))
    if as_json:
        print_json([_difference_as_json(each) for each in found])
        return
    for each in found:
        typer.secho(dotted(each.path), bold=True)
        sides = [("-", "red", each.left), ("+", "green", each.right)]
        shown = [(sign, color, flow(value.value), value.place) for sign, color, value in sides if value]
        width = max(len(text) for _, _, text, _ in shown)
        for sign, color, text, place in shown:
            typer.echo(f"  {typer.style(f'{sign} {text:{width}}', fg=color)}  # {origin_of(place)}")
    if not found:
        typer.echo("the same")


def _difference_as_json(difference: "Difference") -> dict[str, Any]:
    from nasframe.recipe.provenance import dotted, sourced_as_json

    two = {"left": difference.left, "right": difference.right}
    sides = {side: None if value is None else sourced_as_json(value) for side, value in two.items()}
    return {"path": dotted(difference.path), **sides}
