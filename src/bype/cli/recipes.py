"""`recipes`."""

from bype.cli.options import Json, print_json
from bype.core.recipes import DEFAULT_RECIPE, RECIPES


def recipes(as_json: Json = False) -> None:
    """List the recipes, named sets of options for `train --recipe NAME`."""
    if as_json:
        print_json({name: {"summary": r.summary, "options": r.lines()} for name, r in RECIPES.items()})
        return
    for name, recipe in RECIPES.items():
        print(f"{name}{' (default)' if name == DEFAULT_RECIPE else ''}: {recipe.summary}")
        for option, value in recipe.lines().items():
            print(f"  --{option.replace('_', '-'):12} {value}")
