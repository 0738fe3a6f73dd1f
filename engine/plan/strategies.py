"""Choosing among the ways that fit."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from engine.errors import InvalidValue
from engine.plan.cpu_way import cpu_way
from engine.plan.custom_map import DeviceMap, custom_way
from engine.plan.devices import Devices
from engine.plan.draft import Filling
from engine.plan.footprint import Footprint
from engine.plan.forecast import Pace, forecast_of
from engine.plan.gpu_ways import Cut, GpuWays
from engine.plan.need import Need, cache_growths
from engine.plan.spread import full_before_next, last_full_first, same_share
from engine.values import Fits, Forecast, Strategy

ANSWER_TOKENS = 256
"""Of a usual answer."""


class Chooser:
    """Chooses a way to place one footprint on the devices, for any context window."""

    def __init__(
        self,
        footprint: Footprint,
        devices: Devices,
        strategy: Strategy = Strategy.AUTO,
        device_map: DeviceMap = (),
    ) -> None:
        """Prepare.

        Args:
            footprint: what the model needs.
            devices: what it may take.
            strategy: how to choose.
            device_map: of the `custom` strategy.

        Raises:
            InvalidValue: the `custom` strategy without a device_map.
        """
        if strategy is Strategy.CUSTOM and not device_map:
            hint = 'Give a device per module, as in {"": "gpu:0", "lm_head": "cpu"}, or choose auto.'
            raise InvalidValue("The custom strategy needs a device_map.", hint)
        self.footprint = footprint
        self.devices = devices
        self.strategy = strategy
        self._device_map = device_map
        self._pace = Pace(footprint, devices.limits)
        self._growths = cache_growths(footprint)
        self._needs: dict[int, Need] = {}

    def way(self, context_window: int) -> Filling | None:
        """The strategy's way; None where nothing fits.

        Raises:
            InvalidValue: the device_map says what cannot be.
        """
        need = self.need(context_window)
        match self.strategy:
            case Strategy.CUSTOM:
                return custom_way(need, self.devices, self._device_map)
            case Strategy.BALANCED:
                return self._gpus_first(need, same_share)
            case Strategy.SEQUENTIAL:
                return self._gpus_first(need, full_before_next)
            case Strategy.AUTO:
                return self._fastest_way(need)

    def need(self, context_window: int) -> Need:
        """What the model needs at a context window."""
        if context_window not in self._needs:
            self._needs[context_window] = Need(self.footprint, context_window, self._growths)
        return self._needs[context_window]

    def seconds(self, way: Filling, context_window: int) -> float:
        """Predicted of one token while the context window is half full."""
        return self._pace.step_seconds(way.layers, context_window // 2)

    def answer_seconds(self, way: Filling, context_window: int) -> float:
        """Predicted of a usual answer: its first token, and some hundred more."""
        forecast = self.forecast(way, context_window)
        return forecast.time_to_first_token + ANSWER_TOKENS / forecast.decode_tps

    def forecast(self, way: Filling, context_window: int) -> Forecast:
        """How fast a way is predicted to be."""
        return forecast_of(self.footprint, way.layers, context_window, self.devices.limits)

    def fits_without_disk(self, context_window: int, *, on_gpus: bool) -> bool:
        """Whether some way leaves nothing on disk, or, `on_gpus`, nothing off the GPUs."""
        need = self.need(context_window)
        ways = self._gpu_ways(need)
        if ways.whole() is not None:
            return True
        return not on_gpus and (ways.rest_fits_ram() or _lies_in_ram(cpu_way(need, self.devices)))

    def _fastest_way(self, need: Need) -> Filling | None:
        """All on GPUs where that fits: on one alone, or else on all of them; the fastest answer otherwise."""
        by_speed = GpuWays(need, self.devices, self.devices.fastest_first())
        if self.devices.are_alike():
            together = [by_speed.whole(same_share)]
        else:
            together = [
                by_speed.whole(),
                *map(self._gpu_ways(need).whole, (full_before_next, last_full_first)),
            ]
        whole = [*by_speed.alone(), *(way for way in together if way is not None)]
        return self._fastest(whole, need) or self._sooner_done(
            self._fullest_gpus(need), cpu_way(need, self.devices), need.context_window
        )

    def _sooner_done(self, on_gpus: Filling | None, on_cpu: Filling | None, window: int) -> Filling | None:
        """The way that answers sooner: the CPU alone has to make up for its slower prefill."""
        if on_gpus is None or on_cpu is None:
            return on_gpus or on_cpu
        if self.seconds(on_gpus, window) <= self.seconds(on_cpu, window):
            return on_gpus
        return min((on_gpus, on_cpu), key=lambda way: self.answer_seconds(way, window))

    def _gpus_first(self, need: Need, cut: Cut) -> Filling | None:
        whole = self._gpu_ways(need).whole(cut)
        return whole or self._fullest_gpus(need) or cpu_way(need, self.devices)

    def _fullest_gpus(self, need: Need) -> Filling | None:
        """Of the ways with something in RAM or on disk beside GPUs, the fastest."""
        cuts = [full_before_next] if self.devices.are_alike() else [full_before_next, last_full_first]
        ways = self._gpu_ways(need)
        return self._fastest(chain.from_iterable(map(ways.partial, cuts)), need)

    def _gpu_ways(self, need: Need) -> GpuWays:
        return GpuWays(need, self.devices, self.devices.gpus)

    def _fastest(self, ways: Iterable[Filling], need: Need) -> Filling | None:
        return min(ways, key=lambda way: self.seconds(way, need.context_window), default=None)


def _lies_in_ram(way: Filling | None) -> bool:
    return way is not None and way.fits is not Fits.DISK
