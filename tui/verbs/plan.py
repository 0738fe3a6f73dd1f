"""`vramble plan`: what would go where and how fast, before anything is loaded."""

from __future__ import annotations

import argparse
from pathlib import Path

import engine
from engine import values
from tui import paths
from tui.settings import read_settings
from tui.verbs import flags, output
from tui.verbs.map_file import read_device_map
from tui.verbs.naming import find_model, refuse_address
from tui.verbs.plan_document import document_of
from tui.verbs.plan_text import write_plan
from tui.verbs.planned import Plan
from tui.verbs.study import study
from tui.verbs.training import add_training_flags, estimate_training, refuse_loose_flags

_STRATEGIES = (values.Strategy.AUTO, values.Strategy.BALANCED, values.Strategy.SEQUENTIAL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `vramble plan` takes."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a folder, a config.json alone, hf:owner/name, ms:owner/name, a listed name, or guide",
    )
    flags.add_json_flag(parser)
    flags.add_load_flags(parser)
    parser.add_argument(
        "--strategy",
        metavar="S",
        default="auto",
        help="auto (fastest predicted), balanced, sequential, or a device_map in a JSON file",
    )
    parser.add_argument(
        "--measure", action="store_true", help="measure this machine again, some seconds long"
    )
    add_training_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look at the model and at the machine, and say what would go where, and how fast it would be."""
    refuse_address(arguments.model)
    refuse_loose_flags(arguments)
    settings = read_settings(paths.settings_file())
    request = flags.budgets_of(arguments, settings.budgets.request())
    strategy, device_map = strategy_of(arguments.strategy)
    quantization = flags.quantization_of(arguments) or settings.quantization
    model = find_model(without_file_name(arguments.model), settings)
    found = study(
        model.folder,
        request,
        measure=arguments.measure,
        needs_speed=arguments.train is None,
        adapter=model.adapter,
    )
    footprint = engine.footprint_of(found.verdict, quantization, found.blueprint)
    placement = engine.placement_for(
        footprint,
        found.budgets,
        arguments.context or settings.context_window,
        limits=found.limits,
        strategy=strategy,
        device_map=device_map,
        other=lambda wanted: engine.footprint_of(found.verdict, wanted, found.blueprint),
    )
    training = estimate_training(arguments, found, quantization)
    plan = Plan(study=found, footprint=footprint, placement=placement, training=training)
    if arguments.json:
        output.write_json(document_of(plan))
    else:
        write_plan(plan)
    return 0


def strategy_of(text: str) -> tuple[values.Strategy, tuple[tuple[str, str], ...]]:
    """A strategy by its name, or `custom` and the device_map of a file. Raises WrongUsage."""
    if text in _STRATEGIES:
        return values.Strategy(text), ()
    return values.Strategy.CUSTOM, read_device_map(Path(text).expanduser())


def without_file_name(model: str) -> str:
    """The folder, where somebody points at the config.json in it."""
    path = Path(model)
    return str(path.absolute().parent) if path.name == "config.json" else model
