"""The verbs that read a recipe and do nothing with it."""

import typer

from nasframe.cli.arguments import AsJson, Overrides, Plugins, RecipeName
from nasframe.cli.output import print_json, problem_as_json
from nasframe.errors import RecipeError


def validate(
    recipe: RecipeName, overrides: Overrides = None, plugin: Plugins = None, as_json: AsJson = False
) -> None:
    """Find all problems of a recipe; nothing is run."""
    from nasframe.recipe import load_recipe

    problems = []
    try:
        load_recipe(recipe, overrides or (), plugin or ())
    except RecipeError as error:
        if not as_json:
            raise
        problems = error.problems
    if as_json:
        print_json({"valid": not problems, "problems": [problem_as_json(each) for each in problems]})
        raise typer.Exit(2 if problems else 0)
    typer.echo(f"{recipe} is valid")


def config(
    recipe: RecipeName, overrides: Overrides = None, plugin: Plugins = None, as_json: AsJson = False
) -> None:
    """Print the complete recipe, all defaults filled in."""
    from nasframe.recipe import dump_recipe, load_recipe, recipe_to_mapping

    complete = load_recipe(recipe, overrides or (), plugin or (), check=False)
    if as_json:
        print_json(recipe_to_mapping(complete))
    else:
        typer.echo(dump_recipe(complete), nl=False)
