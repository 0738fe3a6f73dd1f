"""`vramble plan`: what would go where, before anything is loaded."""

from __future__ import annotations

import argparse

import engine
from engine import values
from tui import paths
from tui.format import format_parameters, format_size, format_tokens
from tui.settings import read_settings
from tui.verbs import flags, output
from tui.verbs.naming import find_model, refuse_address
from tui.verbs.plan_document import document_of
from tui.verbs.table import table_lines

_DEVICE_COLUMNS = ["device", "budget", "weights", "KV cache", "activations", "runtime", "predicted"]
_FITS = {
    values.Fits.GPU: "It fits on the GPU.",
    values.Fits.GPU_RAM: "It fits into GPU and RAM.",
    values.Fits.DISK: "It fits, with some of it read from the disk.",
    values.Fits.NO: "It does not fit.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `vramble plan` takes."""
    parser.add_argument(
        "model", metavar="MODEL", help="a folder, hf:owner/name, ms:owner/name, a listed name, or guide"
    )
    flags.add_json_flag(parser)
    flags.add_load_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look at the model and at the devices, and say what would go where."""
    refuse_address(arguments.model)
    settings = read_settings(paths.settings_file())
    budgets = flags.budgets_of(arguments, settings.budgets.request())
    quantization = flags.quantization_of(arguments) or settings.quantization
    verdict = engine.inspect_folder(find_model(arguments.model, settings).folder)
    footprint = engine.footprint_of(verdict, quantization)
    placement = engine.placement_for(
        footprint, engine.live_budgets(budgets), arguments.context or settings.context_window
    )
    if arguments.json:
        output.write_json(document_of(verdict, footprint, placement))
    else:
        _write(verdict, placement)
    return 0


def _write(verdict: engine.Verdict, placement: values.Placement) -> None:
    parameters, stored = format_parameters(verdict.parameters), format_size(verdict.weight_bytes)
    facts = f"{verdict.native_class}, {parameters} parameters, {stored} stored as {verdict.dtype}"
    output.write_line(f"{facts}, in {verdict.folder}")
    output.write_line(
        f"context window {format_tokens(placement.context_window)}, quantization {placement.quantization}"
    )
    output.write_line()
    for line in table_lines(
        _DEVICE_COLUMNS, [_row(device) for device in placement.devices], numbers=" rrrrrr"
    ):
        output.write_line(line)
    output.write_line()
    tiers = ", ".join(f"{count} {tier}" for tier, count in placement.tier_counts().items())
    output.write_line(f"{_FITS[placement.fits]}{f' Modules: {tiers}.' if tiers else ''}")
    for reason in placement.reasons:
        output.write_line(f"- {reason}")


def _row(device: values.DevicePlan) -> list[str]:
    figures = (
        device.budget_bytes,
        device.weight_bytes,
        device.kv_bytes,
        device.activation_bytes,
        device.runtime_bytes,
        device.predicted_bytes,
    )
    return [device.label or device.device, *map(format_size, figures)]
