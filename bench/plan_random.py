"""Random plans that said they fit, carried out under a memory cgroup of exactly their RAM budget."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.models import VOCABULARY, make, wide_tokenizer
from bench.plan_cases import DTYPES, LAYERS
from bench.plan_run import EngineClient, RunFailed, prompt_of, run
from bench.plan_watch import Cage, cage
from engine.commands import DryRun
from engine.errors import DoesNotFit
from engine.events import DryRunDone
from engine.plan import place
from engine.values import BudgetRequest, Placement, Quantization

CONTEXTS = (256, 512, 512, 1024, 1024, 2048)
REPLY_TOKENS = 8
MARGIN_TOKENS = 8
TURNS_PER_PROCESS = 5
FREEING_TRIES, FREEING_SECONDS = 20, 0.2
_SHARES = (0.55, 1.2)
_LAYERS = (2, 4)
MB = 1_000_000


class Wish(NamedTuple):
    """What a random person asks for.

    Attributes:
        family: of the model.
        dtype: as stored and computed.
        context_window: tokens.
        quantization: on load.
        share: of the RAM that holding everything there would take.
    """

    family: str
    dtype: str
    context_window: int
    quantization: Quantization
    share: float


def wishes(seed: int) -> Iterator[Wish]:
    """Wishes without end, the same ones for one seed."""
    dice = random.Random(seed)
    families = [family for family in LAYERS if family != "llama_large"]
    while True:
        yield Wish(
            dice.choice(families),
            dice.choice(list(DTYPES)),
            dice.choice(CONTEXTS),
            dice.choice(list(Quantization)),
            round(dice.uniform(*_SHARES), 3),
        )


class Survivor:
    """Carries out one plan after another, in one engine process as long as that lives."""

    def __init__(self, parent: Path, group: Cage) -> None:
        """Take a scratch folder, and the cage for the engine."""
        self._parent = parent
        self._group = group
        self._client: EngineClient | None = None
        self._turns = 0
        self._tokenizer = wide_tokenizer(VOCABULARY)

    def outcome(self, wish: Wish) -> str:
        """Plan, load and talk: "survived", "refused", "out of memory", or what else went wrong."""
        placed = self._placed(wish)
        if placed is None:
            return "refused"
        folder, placement, budget = placed
        kills = self._group.kills()
        try:
            self._carry_out(folder, placement, budget)
        except RunFailed as failed:
            self.close()
            if failed.out_of_memory or self._group.kills() > kills:
                return "out of memory"
            return "refused late" if failed.error == "DoesNotFit" else str(failed)
        return "survived"

    def close(self) -> None:
        """End the engine process."""
        if self._client is not None:
            self._group.limit(None)
            self._client.close()
        self._client = None

    def _placed(self, wish: Wish) -> tuple[Path, Placement, int] | None:
        """A model, a plan for it that says it fits, and its budget; None where the plan says no."""
        folder = self._folder(wish)
        try:
            needed = _ram(_plan(folder, wish, None))
            budget = int(wish.share * needed)
            return folder, _plan(folder, wish, budget), budget
        except DoesNotFit:
            return None

    def _folder(self, wish: Wish) -> Path:
        folder = self._parent / f"{wish.family}-{wish.dtype}"
        if not folder.exists():
            few, many = _LAYERS
            make(wish.family, few if wish.dtype == "fp32" else many, DTYPES[wish.dtype], folder)
            client = self._fresh()
            client.ask(lambda turn_id: DryRun(turn_id=turn_id, folder=folder))
            client.wait(DryRunDone)
            self.close()
        return folder

    def _fresh(self) -> EngineClient:
        self.close()
        self._client, self._turns = EngineClient(self._group), 0
        return self._client

    def _carry_out(self, folder: Path, placement: Placement, budget: int) -> None:
        client = self._held_to(budget)
        self._turns += 1
        tokens = placement.context_window - REPLY_TOKENS - MARGIN_TOKENS
        run(client, folder, placement, prompt_of(self._tokenizer, tokens), REPLY_TOKENS, lambda: None)

    def _held_to(self, budget: int) -> EngineClient:
        """An engine process under the limit: the one at hand, unless it has served long or holds more."""
        if self._client is not None and self._turns < TURNS_PER_PROCESS:
            with contextlib.suppress(OSError):
                self._group.limit(budget)
                return self._client
        client = self._fresh()
        for _ in range(FREEING_TRIES):  # the process before may still be giving its memory back
            with contextlib.suppress(OSError):
                self._group.limit(budget)
                return client
            self._group.empty()
            time.sleep(FREEING_SECONDS)
        self._group.limit(budget)
        return client


def _plan(folder: Path, wish: Wish, ram_bytes: int | None) -> Placement:
    budgets = BudgetRequest(ram_bytes=ram_bytes)
    return place(folder, context_window=wish.context_window, quantization=wish.quantization, budgets=budgets)


def _ram(placement: Placement) -> int:
    return next(plan.predicted_bytes for plan in placement.devices if plan.device == "ram")


def survive(number: int, seed: int, parent: Path) -> int:
    """Carry out so many plans that said they fit; prints what became of them, and 1 if one ran out of memory.

    Args:
        number: of plans.
        seed: of the wishes.
        parent: a scratch folder.
    """
    outcomes: Counter[str] = Counter()
    bad: list[str] = []
    print(f"seed {seed}")
    with cage() as group:
        survivor = Survivor(parent, group)
        for wish in wishes(seed):
            outcome = survivor.outcome(wish)
            outcomes[outcome] += 1
            if outcome not in {"survived", "refused"}:
                bad.append(f"{wish}: {outcome}")
                print(bad[-1], flush=True)
            if sum(outcomes.values()) - outcomes["refused"] >= number:
                break
        survivor.close()
    print("  ".join(f"{outcome}: {count}" for outcome, count in outcomes.most_common()))
    print(json.dumps({"bench": "plan_random", "seed": seed, "outcomes": dict(outcomes), "bad": bad}))
    return 1 if outcomes["out of memory"] else 0
