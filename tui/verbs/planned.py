"""One answer of `vramble plan`, before it is written as text or as JSON."""

from __future__ import annotations

from dataclasses import dataclass

import engine
from engine import values
from tui.verbs.study import Study


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is planned, and what that rests on.

    Attributes:
        study: what it rests on.
        footprint: what the model needs.
        placement: what would go where.
        training: how it would be trained and what that would hold; None where nobody asked.
    """

    study: Study
    footprint: engine.Footprint
    placement: values.Placement
    training: tuple[engine.Training, engine.TrainingEstimate] | None = None

    @property
    def parameters(self) -> int:
        """Distinct ones, of the built model; of a checkpoint that is stored packed, of its headers."""
        blueprint, verdict = self.study.blueprint, self.study.verdict
        is_packed = verdict.config.quantization and verdict.tensors
        return verdict.parameters if blueprint is None or is_packed else blueprint.parameters

    @property
    def weight_bytes(self) -> int:
        """As stored; of a model that only a dry run knows, as loaded."""
        verdict = self.study.verdict
        return verdict.weight_bytes if verdict.tensors else self.footprint.weight_bytes

    @property
    def architecture(self) -> str:
        """The class that runs it, or the one that config.json names."""
        verdict = self.study.verdict
        return verdict.native_class or verdict.config.architecture

    @property
    def dtype(self) -> str:
        """As most bytes are stored, or as config.json says."""
        verdict = self.study.verdict
        return verdict.dtype or verdict.config.dtype

    @property
    def gpus(self) -> list[values.Budget]:
        """The GPUs that may be used, real ones or imaginary ones."""
        return [budget for budget in self.study.budgets if budget.device.startswith("gpu:")]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The placement's, and what could not be found out."""
        return (*self.placement.reasons, *self.study.notes)
