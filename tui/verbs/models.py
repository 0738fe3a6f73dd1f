"""`vramble models`: what is on this disk, and whether it fits."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import engine
from engine import errors, values
from tui import paths
from tui.format import format_size, format_window
from tui.settings import Settings, read_settings
from tui.verbs import flags, output
from tui.verbs.naming import find_model, refuse_address
from tui.verbs.table import table_lines

_FITS = {
    values.Fits.GPU: "fits on the GPU",
    values.Fits.GPU_RAM: "fits GPU + RAM",
    values.Fits.DISK: "needs the disk",
    values.Fits.NO: "does not fit",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `vramble models` takes."""
    parser.add_argument(
        "--check", metavar="NAME", help="look closely at one model, and say what is wrong with it"
    )
    flags.add_json_flag(parser)
    flags.add_load_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the models, or check one."""
    settings = read_settings(paths.settings_file())
    fitting = Fitting(arguments, settings)
    if arguments.check is not None:
        _check(arguments.check, settings, fitting, as_json=arguments.json)
    else:
        _list(engine.list_models(settings.model_folders), fitting, as_json=arguments.json)
    return 0


class Fitting:
    """Says how models fit; the devices are looked at once."""

    def __init__(self, arguments: argparse.Namespace, settings: Settings) -> None:
        """Look once at what is free, within the flags and the settings."""
        self._budgets = engine.live_budgets(flags.budgets_of(arguments, settings.budgets.request()))
        self._context_window = arguments.context or settings.context_window
        self._quantization = flags.quantization_of(arguments) or settings.quantization

    def place(self, model: values.ModelRef) -> values.Placement:
        """Where a model would go. Raises CheckpointError."""
        footprint = engine.footprint_of(engine.inspect_folder(model.folder), self._quantization)
        return engine.placement_for(footprint, self._budgets, self._context_window)

    def judge(self, model: engine.LocalModel) -> tuple[values.Fits | None, str]:
        """How a model fits, or None and what is wrong with it."""
        if model.problem:
            return None, model.problem
        try:
            return self.place(model.ref).fits, ""
        except errors.CheckpointError as error:
            return None, error.message


def _list(models: Sequence[engine.LocalModel], fitting: Fitting, *, as_json: bool) -> None:
    judged = [(model, *fitting.judge(model)) for model in models]
    if as_json:
        output.write_json([_document(model, fits, problem) for model, fits, problem in judged])
        return
    rows = [_row(model, _FITS[fits] if fits else problem) for model, fits, problem in judged]
    for line in table_lines(["name", "size", "stored as", "context", "fits"], rows, numbers=" r r"):
        output.write_line(line)


def _row(model: engine.LocalModel, verdict: str) -> list[str]:
    window = format_window(model.context_window) if model.context_window else ""
    return [model.ref.name, format_size(model.weight_bytes), model.format, window, verdict]


def _document(model: engine.LocalModel, fits: values.Fits | None, problem: str) -> dict[str, object]:
    return {
        "name": model.ref.name,
        "folder": str(model.ref.folder),
        "hub": str(model.ref.hub or ""),
        "revision": model.ref.revision,
        "architecture": model.architecture,
        "weight_bytes": model.weight_bytes,
        "format": model.format,
        "context_window": model.context_window,
        "modified_at": model.modified_at,
        "fits": str(fits or ""),
        "problem": problem,
    }


def _check(name: str, settings: Settings, fitting: Fitting, *, as_json: bool) -> None:
    refuse_address(name)
    model = find_model(name, settings)
    verdict = engine.inspect_folder(model.folder)
    placement = fitting.place(model)
    if as_json:
        warnings = list(verdict.warnings)
        found = {
            "name": model.name,
            "folder": str(model.folder),
            "warnings": warnings,
            "fits": placement.fits,
        }
        output.write_json(found)
        return
    output.write_line(f"{model.name} is sound, and {_FITS[placement.fits]}.")
    for sentence in verdict.warnings:
        output.write_line(f"- {sentence}")
