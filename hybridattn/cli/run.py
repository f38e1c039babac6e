"""hybridattn run: the whole job."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from ..compute import COMPUTES
from ..errors import ConfigError
from ..pipeline.execute import run as run_recipe
from ..pipeline.recipe import Recipe
from ..pipeline.recipe_parts import DEMO
from ..pipeline.recipe_toml import merge, parse_setting
from .common import Parser, apply_threads, positive

EXAMPLE = """\
hybridattn run --demo --out demo
hybridattn run recipe.toml --out out --set distill.tokens=200000"""


def parser() -> Parser:
    """Its command line."""
    p = Parser(
        "run",
        "The whole job: align, score, plan, distill, evaluate, measure, report. Stages that are done in "
        "the output folder are skipped, so a run can be stopped and started again at any moment, and a "
        "changed recipe runs only what the change touches. Ends with report.html, report.md and "
        "report.json.",
        EXAMPLE,
    )
    p.add_argument("recipe", nargs="?", metavar="RECIPE.toml", help="what differs from the built-in recipe")
    p.add_argument("--out", metavar="DIR", help="output folder (needed, except with --show-recipe)")
    p.add_argument(
        "--demo",
        action="store_true",
        help="the built-in recipe, with less evaluation text: SmolLM2-135M-Instruct, Wikipedia passages",
    )
    p.add_argument("--teacher", metavar="MODEL", help="model folder, .gguf file or hub id (teacher.model)")
    p.add_argument("--text", metavar="FILE", help="training text (text.train)")
    p.add_argument("--mixer", metavar="KIND", help="kind of linear mixer (mixer.kind)")
    p.add_argument(
        "--softmax-layers",
        type=positive,
        metavar="K",
        help="how many layers stay softmax (plan.softmax_layers)",
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="any key of the recipe; may be repeated",
    )
    p.add_argument(
        "--show-recipe",
        action="store_true",
        help="print the whole recipe as TOML, with what each key is for, and stop",
    )
    p.add_argument("--compute", choices=COMPUTES, help="arithmetic of products (compute)")
    p.add_force()
    p.add_threads()
    p.add_argument(
        "--json", action="store_true", help="print the report's paths and headline numbers as JSON"
    )
    return p


def run(args: argparse.Namespace) -> None:
    """Run the recipe and print where the report is, with its first paragraph."""
    complain = parser().error
    settings = overrides(args)
    if not (args.recipe or args.demo or settings or args.show_recipe):
        complain("give a recipe file, or --demo")
    if args.recipe and args.demo:
        complain("give a recipe file or --demo, not both")
    if args.demo:
        settings = merge(DEMO, settings)
    recipe = Recipe.load(args.recipe, settings) if args.recipe else Recipe.from_dict(settings)
    if args.show_recipe:
        print(recipe.to_toml(explain=True), end="")
        return
    if not args.out:
        complain("--out is needed: the folder for results and report")
    refuse_overwrite(args.recipe, args.out, recipe)
    apply_threads(args)

    def log(line: str) -> None:
        if not args.quiet:
            print(line, file=sys.stderr, flush=True)

    shown = not args.quiet and sys.stderr.isatty()
    paths = run_recipe(recipe, args.out, log, progress=shown, force=args.force)
    facts = json.loads(paths["json"].read_text(encoding="utf-8"))
    if args.json:
        json.dump(
            {
                "report": {kind: str(path) for kind, path in paths.items()},
                "chosen": facts["chosen"],
                "comparisons": facts["comparisons"],
                "summary": facts["summary"],
            },
            sys.stdout,
            indent=1,
        )
        print()
        return
    for paragraph in facts["summary"]:
        print(f"\n{plain(paragraph)}")
    print(f"\n{paths['html']}")


def refuse_overwrite(source: str | None, out: str, recipe: Recipe) -> None:
    """ConfigError when the recipe that is read would be replaced by another one, or by one without comments;
    the one that an earlier run wrote into its folder says the same still.
    """
    written = Path(out) / "recipe.toml"
    same = source is not None and written.exists() and written.samefile(source)
    if same and written.read_text(encoding="utf-8") != recipe.to_toml():
        raise ConfigError(f"--out {out!r} would write over the recipe {source!r}; give another folder")


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The command line's flags as recipe tables."""
    settings: dict[str, Any] = {}
    flags = (
        ("teacher", "model", args.teacher),
        ("text", "train", args.text),
        ("mixer", "kind", args.mixer),
        ("plan", "softmax_layers", args.softmax_layers),
    )
    for table, key, value in flags:
        if value is not None:
            settings = merge(settings, {table: {key: value}})
    if args.softmax_layers is not None:
        settings = merge(settings, {"plan": {"ratio": 0.0}})  # which a recipe may have said instead
    if args.compute is not None:
        settings = merge(settings, {"compute": args.compute})
    for text in args.set:
        settings = merge(settings, parse_setting(text))
    return settings


def plain(text: str) -> str:
    """A paragraph of the report for a terminal: no marks, lines of 88."""
    return textwrap.fill(text.replace("**", "").replace("`", ""), 88)
