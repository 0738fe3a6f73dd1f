"""Which model is to be loaded, and how: names found, context and quantization changed, remedies tried."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from engine.commands import LoadModel
from engine.errors import EngineError
from engine.values import BudgetRequest, ModelRef, Quantization, Tier
from tui.settings import SettingsError, change_settings

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen

BUILT_IN = "guide"
_SMALLEST_CONTEXT = 512
_SHARE_LEFT_ON_GPU = 0.85


class Loader:
    """Turns what the person wants into loads."""

    def __init__(self, screen: ChatScreen) -> None:
        """Load for this screen."""
        self._screen = screen
        self._bridge = screen.bridge

    async def load_first(self) -> None:
        """Load the model of the command line, or the one used last, or the built-in one."""
        options, settings = self._bridge.options, self._bridge.settings
        if options.model:
            await self.load_named(options.model)
        elif not await self._load_quietly(settings.last_model):
            await self.load_named(BUILT_IN)

    async def _load_quietly(self, name: str) -> bool:
        found = await self._find(name) if name else None
        if isinstance(found, ModelRef):
            self.load(found)
        return isinstance(found, ModelRef)

    async def load_named(self, name: str) -> None:
        """Load a model by name or folder; what is wrong with the name becomes a banner."""
        found = await self._find(name)
        if isinstance(found, EngineError):
            self._screen.banner.show(found.message, found.hint)
        else:
            self.load(found)

    async def find(self, name: str) -> ModelRef | None:
        """A model by name or folder; None, and a banner, when there is none."""
        found = await self._find(name)
        if isinstance(found, EngineError):
            self._screen.banner.show(found.message, found.hint)
            return None
        return found

    async def _find(self, name: str) -> ModelRef | EngineError:
        try:
            return await asyncio.to_thread(self._found, name)
        except EngineError as error:
            return error

    def _found(self, name: str) -> ModelRef:
        from engine import find_model  # much is imported for it: off the loop, as what it reads is

        return find_model(name, self._bridge.settings.model_folders)

    def load(self, model: ModelRef, quantization: Quantization | None = None) -> None:
        """Load a model with what the command line and the settings say."""
        options = self._bridge.options
        wish = LoadModel(
            model=model,
            context_window=options.context_window,
            quantization=quantization or options.quantization,
            budgets=options.budgets,
        )
        self._start(wish)

    def load_again(self, **changes: object) -> None:
        """Load the model of before with some of its fields changed."""
        if self._bridge.wish is None:
            self._screen.app.say("No model was loaded yet; choose one with Ctrl+O.")
            return
        self._start(msgspec.structs.replace(self._bridge.wish, placement=None, **changes))

    def load_as_planned(self, wish: LoadModel) -> None:
        """Load exactly what a plan or a picker says."""
        self._start(wish)

    def _start(self, wish: LoadModel) -> None:
        screen = self._screen
        screen.banner.hide()
        screen.load_bar.begin(wish.model.name)
        self._bridge.load(wish)
        if screen.chat is not None:
            screen.chat.events.load_began(wish.model.name)

    def keep(self, model: ModelRef) -> None:
        """Load this model at the next start; only one that has loaded is worth it."""
        self._screen.run_worker(asyncio.to_thread(self._keep, model), group="settings")

    def _keep(self, model: ModelRef) -> None:
        from tui.paths import settings_file

        name = model.name if model.name == BUILT_IN or model.hub else str(model.place)
        try:
            change_settings(settings_file(), last_model="" if name == BUILT_IN else name)
        except SettingsError:
            return  # the choice holds until the end; what is wrong with the file was told at the start

    def remedy(self, name: str) -> None:
        """Load again in a way that needs less memory where it ran out."""
        match name:
            case "shorter":
                self.load_again(context_window=max(_SMALLEST_CONTEXT, self._window() // 2))
            case "nf4":
                self.load_again(quantization=Quantization.NF4)
            case _:
                self.load_again(budgets=self._tighter_budgets())

    def _window(self) -> int:
        loaded, wish = self._bridge.loaded, self._bridge.wish
        if loaded is not None:
            return loaded.context_window
        return (wish and wish.context_window) or 2 * _SMALLEST_CONTEXT

    def _tighter_budgets(self) -> BudgetRequest:
        """GPU caps below what the plan took there, so that layers move on to RAM."""
        wish, loaded = self._bridge.wish, self._bridge.loaded
        before = wish.budgets if wish else BudgetRequest()
        if loaded is None:
            return before
        taken = [d for d in loaded.placement.devices if d.device.startswith(f"{Tier.GPU}:")]
        caps = tuple(
            (int(d.device.partition(":")[2]), int(d.predicted_bytes * _SHARE_LEFT_ON_GPU)) for d in taken
        )
        return msgspec.structs.replace(before, gpu=caps or before.gpu)
