"""`vramble models`: what is on this disk, and whether it fits."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import engine
from engine import errors, values
from tui import paths
from tui.format import format_size, format_speed, format_window
from tui.settings import Settings, read_settings
from tui.verbs import check, flags, output
from tui.verbs.naming import find_model, refuse_address
from tui.verbs.table import table_lines

_FITS = {
    values.Fits.GPU: "fits on the GPU",
    values.Fits.GPU_RAM: "fits GPU + RAM",
    values.Fits.DISK: "needs the disk",
    values.Fits.NO: "does not fit",
}
_COLUMNS = ["name", "size", "stored as", "context", "predicted", "fits"]
_TYPICAL = "Speeds are predicted from typical figures; `vramble plan NAME --measure` measures this machine."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `vramble models` takes."""
    parser.add_argument("--check", metavar="NAME", help="look closely at one model, and say what was found")
    flags.add_json_flag(parser)
    flags.add_load_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the models, or check one."""
    settings = read_settings(paths.settings_file())
    fitting = Fitting(arguments, settings)
    if arguments.check is not None:
        return _check(arguments.check, settings, fitting, as_json=arguments.json)
    _list(engine.list_models(settings.model_folders), fitting, as_json=arguments.json)
    return 0


class Judged(NamedTuple):
    """One model, and either what is wrong with it or where it would go.

    Attributes:
        model: which one.
        problem: why it cannot be loaded; empty when it can.
        placement: where it would go; None where it cannot be loaded.
    """

    model: engine.LocalModel
    problem: str
    placement: values.Placement | None = None

    @property
    def decode_tps(self) -> float | None:
        """Predicted tokens per second, the context half full; None where it does not fit."""
        forecast = self.placement.forecast if self.placement else None
        return forecast.decode_tps if forecast else None


class Fitting:
    """Says how models fit; the devices are looked at once."""

    def __init__(self, arguments: argparse.Namespace, settings: Settings) -> None:
        """Look once at what is free, within the flags and the settings."""
        self._budgets = engine.live_budgets(flags.budgets_of(arguments, settings.budgets.request()))
        self._limits = engine.machine_limits(self._budgets)
        self._context_window = arguments.context or settings.context_window
        self._quantization = flags.quantization_of(arguments) or settings.quantization

    @property
    def is_measured(self) -> bool:
        """Speeds rest on what this machine measured."""
        return self._limits.measured_at > 0

    def place(self, model: values.ModelRef, *, may_run_code: bool = False) -> values.Placement:
        """Where a model would go, and how fast it would be; nothing of it runs. Raises CheckpointError."""
        verdict = engine.inspect_folder(model.folder, may_run_code=may_run_code, adapter=model.adapter)
        blueprint = engine.known_blueprint(model.folder)
        footprint = engine.footprint_of(verdict, self._quantization, blueprint)
        return engine.placement_for(footprint, self._budgets, self._context_window, limits=self._limits)

    def judge(self, model: engine.LocalModel) -> Judged:
        """How a model fits and how fast it would be, or what is wrong with it."""
        if model.problem:
            return Judged(model, model.problem)
        try:
            return Judged(model, "", self.place(model.ref, may_run_code=model.runs_code))
        except errors.CheckpointError as error:
            return Judged(model, error.message)


def _list(models: Sequence[engine.LocalModel], fitting: Fitting, *, as_json: bool) -> None:
    judged = [fitting.judge(model) for model in models]
    if as_json:
        output.write_json([_document(one, is_measured=fitting.is_measured) for one in judged])
        return
    for line in table_lines(_COLUMNS, [_row(one) for one in judged], numbers=" r rr"):
        output.write_line(line)
    if not fitting.is_measured and any(one.decode_tps for one in judged):
        output.write_line()
        output.write_line(_TYPICAL)


def fits_phrase(placement: values.Placement) -> str:
    """How a model fits, in few words."""
    has_gpu = any(device.device.startswith("gpu:") for device in placement.devices)
    if placement.fits is values.Fits.GPU_RAM and not has_gpu:
        return "fits in RAM"
    return _FITS[placement.fits]


def _row(judged: Judged) -> list[str]:
    model = judged.model
    return [
        model.ref.name,
        format_size(model.weight_bytes),
        model.format,
        format_window(model.context_window) if model.context_window else "",
        format_speed(judged.decode_tps) if judged.decode_tps else "",
        _fit_or_problem(judged),
    ]


def _fit_or_problem(judged: Judged) -> str:
    if judged.placement is None:
        return judged.problem
    return fits_phrase(judged.placement) + ("; runs its own code" if judged.model.runs_code else "")


def _document(judged: Judged, *, is_measured: bool) -> dict[str, object]:
    model, placement = judged.model, judged.placement
    return {
        "name": model.ref.name,
        "folder": str(model.ref.place),
        "hub": str(model.ref.hub or ""),
        "revision": model.ref.revision,
        "architecture": model.architecture,
        "weight_bytes": model.weight_bytes,
        "format": model.format,
        "context_window": model.context_window,
        "modified_at": model.modified_at,
        "fits": str(placement.fits) if placement else "",
        "decode_tps": judged.decode_tps,
        "is_measured": is_measured,
        "problem": judged.problem,
        "runs_code": model.runs_code,
    }


def _check(name: str, settings: Settings, fitting: Fitting, *, as_json: bool) -> int:
    refuse_address(name)
    model = find_model(name, settings)
    checks = engine.examine(model.folder)
    if failure := check.first_failure(checks):
        return check.refuse(model, checks, failure, as_json=as_json)
    placement = fitting.place(model)
    if as_json:
        tps = placement.forecast.decode_tps if placement.forecast else None
        output.write_json({**check.document(model, checks), "fits": placement.fits, "decode_tps": tps})
    else:
        check.write_sound(model, fits_phrase(placement), checks)
    return 0
