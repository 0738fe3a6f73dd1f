"""What one module takes of a step, by where it rests and what computes it."""

from __future__ import annotations

from collections.abc import Collection

from engine.checkpoint.attention import EAGER_FAMILIES, FULL
from engine.heap import LARGEST_REUSED_BYTES
from engine.plan.cost import Cost, Way
from engine.plan.footprint import Footprint
from engine.plan.module import Module
from engine.plan.modules import is_head
from engine.values import GpuLimits, LayerPlacement, MachineLimits, Tier

_COLUMN_FAMILIES = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
"""Their matrices have a row per input."""
WHOLE_STEP_FAMILIES = (
    "gemma2",
    "gemma3_text",
    "glm",
    "llama",
    "mistral",
    "mixtral",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "stablelm",
)
"""Of these, our own kernels compute a whole step at once."""
_MERGED_FAMILIES = ("glm", "phi3")
"""Their projections are stored as one matrix, which cannot be parted once it is packed."""
_WIDE_KEY_FAMILIES = ("gptj", "codegen")
"""Of those, the ones that compute scores in float32, from a copy of all keys."""
_VALUES_SHARE = 0.2
"""Of what attention in steps takes: values are multiplied as they lie, keys are copied before."""
_IN_A_MODEL = 1.12
"""What a model takes beyond the sum of its parts, each measured alone: caches are cold between them."""
_PROMPT_SHARE = 0.65
"""Of the speed of matrix products alone that a prompt reaches: the rest is between them."""
_HALF = 2
_FLOAT_BYTES = 4
_EAGER_OPS = 35
"""Operations that take as long as what two products of 16 bit prepare for each new length of the cache."""
_CONVOLUTION_OPS = 40
"""As long as so many others takes one of a few tokens: its weights are arranged each time."""
_EXPERT_OPS = 2
"""Products per expert on the CPU, those included that no token chose."""
_EVICTING_SHARE = 0.75
"""Of the speed of mapped pages that is left where each takes the room of another."""
_ROW_SHARE = 0.01
"""An embedding's rows are less; one on disk is copied as a whole."""
_EXPERT_SHARE = 0.95
"""A layer of which one token reads less than this holds experts."""
_USUAL_LAYER_OPS = 42
_KERNEL_OPS = 20
"""Operations of our own kernels in a layer."""
_KERNEL_EXPERT_OPS = 5
"""And for each expert that a token passes."""
_CAPPED_FAMILIES = ("gemma2",)
_CAPPED_TIMES = 3.0
"""As long as others takes attention whose scores pass a hyperbolic tangent."""
_CALL_OPS = 4
"""Dispatched operations that take as long as handing one product to our kernels."""
_LONG = 1 << 20
_FILE_TENSORS = 300
"""Of the file that was measured; opening one takes time in proportion."""
_SHARD_BYTES = 5 << 30
_HOOK_OPS = 55
"""Dispatched operations that take as long as accelerate's hooks with one tensor."""
_GPU_COPY_SECONDS = 5e-5
"""Of each tensor that accelerate copies and drops again: the wait, and `empty_cache`."""
_DTYPES = {2: "bfloat16", 4: "float32"}


class ModuleCosts:
    """One footprint's modules on one machine, with the executors of today.

    Weights in RAM beside a GPU are copied to it by accelerate, tensor by tensor, for each use.
    Weights on disk are mapped anew for each use; without a GPU, those that are used as they are stored
    are read ahead instead, all of them, past the page cache.
    """

    def __init__(self, footprint: Footprint, limits: MachineLimits) -> None:
        """Look up what does not depend on the placement.

        Args:
            footprint: what the model needs.
            limits: of the machine.
        """
        config = footprint.config
        self._footprint = footprint
        self._limits = limits
        self._gpus = {gpu.device: gpu for gpu in limits.gpus}
        self._modules = {module.name: module for module in footprint.modules}
        self._dtype = config.dtype or _DTYPES.get(footprint.itemsize, "bfloat16")
        self._plain = f"{self._dtype} columns" if config.model_type in _COLUMN_FAMILIES else self._dtype
        self._capped = _CAPPED_TIMES if config.model_type in _CAPPED_FAMILIES else 1.0
        self._is_eager = config.model_type in EAGER_FAMILIES
        self._has_wide_keys = config.model_type in _WIDE_KEY_FAMILIES
        layers = sum(module.layer is not None for module in footprint.modules)
        self._layer_ops = footprint.step_ops / max(1, layers) or _USUAL_LAYER_OPS
        self._layer_convolutions = footprint.step_convolutions / max(1, layers)
        self._layer_bytes = footprint.step_bytes / max(1, layers)
        self._alike = {module.name: _likeness(footprint, module) for module in footprint.modules}
        self._known: dict[tuple[object, ...], Cost] = {}
        self._tensor_seconds = limits.tensor_seconds * _tensors_per_file(footprint) / _FILE_TENSORS
        needed = sum(module.plain_bytes for module in footprint.modules) + limits.ram_runtime_bytes
        self._is_in_place = footprint.is_in_place
        self._is_evicted = 0 < limits.page_cache_bytes < needed
        self._missing_share = _missing_share(footprint, needed - limits.page_cache_bytes)

    def way_of(self, layers: Collection[LayerPlacement]) -> Way:
        """How a step of these layers is computed."""
        if not self._limits.native_bandwidth or any(layer.tier is not Tier.CPU for layer in layers):
            return Way.GENERAL
        kinds = {self._kind(layer, self._modules[layer.name]).partition(" ")[0] for layer in layers}
        if not kinds <= set(self._limits.native_bandwidth):
            return Way.GENERAL
        family = self._footprint.config.model_type
        is_packed = any(0 < layer.bytes < self._modules[layer.name].plain_bytes for layer in layers)
        is_whole = family in WHOLE_STEP_FAMILIES and not (is_packed and family in _MERGED_FAMILIES)
        return Way.WHOLE_STEP if is_whole else Way.SINGLE_LAYERS

    def step(self, layer: LayerPlacement, main: str, context_tokens: int, way: Way = Way.GENERAL) -> Cost:
        """One token's cost of one module.

        Args:
            layer: the module's place.
            main: the GPU that computes what rests elsewhere; empty for none.
            context_tokens: in the cache.
            way: of all modules.
        """
        place = (layer.tier, layer.device, layer.bytes, main)
        key = (self._alike[layer.name], place, context_tokens, way)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._step(layer, main, context_tokens, way)
        return known

    def _step(self, layer: LayerPlacement, main: str, context_tokens: int, way: Way) -> Cost:
        module = self._modules[layer.name]
        gpu = self._computing(layer, main)
        if gpu is not None:
            cost = self._on_gpu(gpu, layer, module, context_tokens)
        elif way is Way.WHOLE_STEP:
            cost = self._by_kernels(layer, module, context_tokens).times(_IN_A_MODEL)
        elif way is Way.SINGLE_LAYERS:
            cost = self._by_single_kernels(layer, module, context_tokens).times(_IN_A_MODEL)
        else:
            cost = self._on_cpu(layer, module, context_tokens).times(_IN_A_MODEL)
        return cost._replace(**self._fetching(layer, module, gpu))

    def prompt(self, layer: LayerPlacement, main: str, tokens: int) -> float:
        """Seconds that one module takes of a prompt computed at once, without reading the disk."""
        module = self._modules[layer.name]
        gpu = self._computing(layer, main)
        kind = self._plain if gpu else self._kind(layer, module)
        speed = named(gpu.flops if gpu else self._limits.flops, kind) * _PROMPT_SHARE
        computed = 1 if is_head(module.name) else tokens
        products = 2 * self._elements(module) * module.active_share * computed / speed
        once = self.step(layer, main, tokens // 2)
        share = module.active_share or 1.0  # together, tokens read more of the experts than one does
        weights = once.weights * min(1 / share, tokens)
        return once.link + once.dispatch + max(products, weights)

    def _elements(self, module: Module) -> float:
        owner = self._modules[module.tied_to] if module.tied_to else module
        return owner.plain_bytes / self._footprint.itemsize

    def _computing(self, layer: LayerPlacement, main: str) -> GpuLimits | None:
        """The GPU that computes a module; None where the CPU does."""
        if layer.tier is Tier.CPU:
            return None
        return self._gpus.get(layer.device if layer.tier is Tier.GPU else main)

    def _read_bytes(self, layer: LayerPlacement, module: Module) -> float:
        """Weight bytes that one token reads; a tied head reads the embedding whole."""
        if module.tied_to:
            return self._modules[module.tied_to].plain_bytes
        return layer.bytes * module.active_share

    def _on_gpu(self, gpu: GpuLimits, layer: LayerPlacement, module: Module, context_tokens: int) -> Cost:
        """Reading and launching overlap: what is left of a launch is what reading does not cover."""
        weights = self._read_bytes(layer, module) / gpu.vram_bandwidth
        cache = 3 * self._footprint.module_kv_bytes(module, context_tokens) / gpu.vram_bandwidth
        ops = self._layer_ops if module.layer is not None else 1
        return Cost(weights, cache, max(0.0, ops * gpu.op_seconds - weights - cache))

    def _on_cpu(self, layer: LayerPlacement, module: Module, context_tokens: int) -> Cost:
        limits = self._limits
        kind = self._kind(layer, module)
        each = limits.linear_seconds.get(kind, 0.0) * module.matrices
        return Cost(
            weights=self._read_bytes(layer, module) / named(limits.linear_bandwidth, kind),
            cache=self._attention_seconds(module, context_tokens),
            dispatch=self._between_seconds(module) + (each if module.layer is not None else 0.0),
        )

    def _by_kernels(self, layer: LayerPlacement, module: Module, context_tokens: int) -> Cost:
        """All of a step in our own kernels: bytes, and threads that wait for each other."""
        limits = self._limits
        kind = self._kind(layer, module).partition(" ")[0]
        size = self._footprint.module_kv_bytes(module, context_tokens) if module.layer is not None else 0
        ops = _KERNEL_OPS if module.layer is not None else 1
        if module.active_share < _EXPERT_SHARE:
            ops += _KERNEL_EXPERT_OPS * self._footprint.config.active_experts
        return Cost(
            weights=self._read_bytes(layer, module) / named(limits.native_bandwidth, kind),
            cache=self._capped * size / named(limits.native_attention_bandwidth, self._dtype),
            dispatch=ops * limits.native_op_seconds,
        )

    def _by_single_kernels(self, layer: LayerPlacement, module: Module, context_tokens: int) -> Cost:
        """Products in our own kernels, everything between them in the model's own code."""
        own = self._on_cpu(layer, module, context_tokens)
        kind = self._kind(layer, module).partition(" ")[0]
        each = _CALL_OPS * self._limits.op_seconds * module.matrices
        if own.cache and not self._is_eager:
            size = self._footprint.module_kv_bytes(module, context_tokens)
            own = own._replace(cache=size / named(self._limits.native_attention_bandwidth, self._dtype))
        return own._replace(
            weights=self._read_bytes(layer, module) / named(self._limits.native_bandwidth, kind),
            dispatch=self._between_seconds(module) + each,
        )

    def _between_seconds(self, module: Module) -> float:
        """What the CPU does between one token's products: it dispatches operations, and passes over states.

        torch passes over them about as fast as its products read weights of float32.
        """
        passed = self._layer_bytes if module.layer is not None else 0.0
        reader = named(self._limits.linear_bandwidth, "float32")
        return self._ops(module) * self._limits.op_seconds + passed / reader

    def _kind(self, layer: LayerPlacement, module: Module) -> str:
        """How the limits call the storage of a module's weights."""
        is_packed = 0 < layer.bytes < module.plain_bytes
        return str(self._footprint.quantization) if is_packed else self._plain

    def _ops(self, module: Module) -> float:
        """Operations that the CPU dispatches for one token of a module."""
        if module.layer is None:
            return 1
        has_experts = module.active_share < _EXPERT_SHARE
        experts = _EXPERT_OPS * self._footprint.config.experts if has_experts else 0
        return self._layer_ops + experts + self._prepared_ops + _CONVOLUTION_OPS * self._layer_convolutions

    @property
    def _prepared_ops(self) -> float:
        if not self._is_eager or self._footprint.itemsize != _HALF:
            return 0.0
        return _EAGER_OPS / (_HALF if self._has_wide_keys else 1)

    def _attention_seconds(self, module: Module, context_tokens: int) -> float:
        """One token's attention on the CPU."""
        size = self._footprint.module_kv_bytes(module, context_tokens)
        if not size or module.layer is None:
            return 0.0
        limits, config = self._limits, self._footprint.config
        groups = config.heads / max(1, config.kv_heads)
        if config.layer_types and config.layer_types[module.layer] not in _ATTENDING:
            return 0.0
        if self._is_eager:
            return self._eager_seconds(size, groups)
        flops = 2 * size * groups / self._footprint.itemsize
        return max(
            size / named(limits.attention_bandwidth, self._dtype),
            flops / named(limits.attention_flops, self._dtype),
        )

    def _copy_bandwidth(self, size: int) -> float:
        """Of keys and values that grow by a token: what is too large for the heap is new each time."""
        limits = self._limits
        return limits.cache_bandwidth if size // 2 <= LARGEST_REUSED_BYTES else limits.copy_bandwidth

    def _eager_seconds(self, size: int, groups: float) -> float:
        """Attention in steps: the heads of a cache with room to grow are copied together, or repeated.

        That is part of what was measured; to widen keys is not.
        """
        limits = self._limits
        repeated = size * groups / named(limits.eager_bandwidth, self._dtype)
        if not self._has_wide_keys:
            return repeated
        keys = size * groups / _HALF / self._footprint.itemsize * _FLOAT_BYTES
        widened = (
            keys / self._copy_bandwidth(2 * int(keys)) if self._footprint.itemsize < _FLOAT_BYTES else 0.0
        )
        return _VALUES_SHARE * repeated + keys / named(limits.eager_bandwidth, "float32") + widened

    def _fetching(self, layer: LayerPlacement, module: Module, gpu: GpuLimits | None) -> dict[str, float]:
        """What bringing a module's weights to where they are computed takes, for each use."""
        if gpu is None and self._is_in_place:
            return {"disk": self._direct_seconds(layer, module)}
        if layer.tier is Tier.GPU or not module.tensors:
            return {}
        if gpu is None:
            return {"disk": self._mapped_seconds(layer, module)}
        link = module.plain_bytes / gpu.link_bandwidth + module.tensors * _GPU_COPY_SECONDS
        if layer.tier is Tier.STREAM:
            return {"link": link}
        return {"link": link, "disk": self._paging(module.plain_bytes) + self._opening(module)}

    def _direct_seconds(self, layer: LayerPlacement, module: Module) -> float:
        """A whole module past the page cache, experts that no token chose included; an embedding's rows.

        What rests in RAM is memory of its own, or pages of files that all have room.
        """
        if layer.tier is not Tier.DISK:
            return 0.0
        is_looked_up = module.layer is None and module.active_share < _ROW_SHARE
        share = module.active_share if is_looked_up else 1.0
        owner = self._modules[module.tied_to] if module.tied_to else module
        return share * owner.plain_bytes / self._limits.disk_bandwidth

    def _mapped_seconds(self, layer: LayerPlacement, module: Module) -> float:
        """Pages of a file, fetched as the CPU touches them.

        The tier `disk` maps the file anew for each use. What rests in RAM is pages of the same file:
        where not all of them have room, reading them in turns drops each before it is used again.
        """
        is_packed = 0 < layer.bytes < module.plain_bytes
        touched = 0.0 if is_packed else module.plain_bytes * module.active_share
        if layer.tier is not Tier.DISK:
            return self._paging(touched) if self._is_evicted else 0.0
        hooks = module.tensors * _HOOK_OPS * self._limits.op_seconds
        if module.layer is None and module.active_share < _ROW_SHARE:
            size = module.plain_bytes
            return hooks + max(size / self._limits.copy_bandwidth, self._paging(size))
        return hooks + self._paging(touched) + self._opening(module)

    def _paging(self, size: float) -> float:
        """Seconds for mapped pages; to find room for one takes time, too, where others must go."""
        limits, missing = self._limits, self._missing_share
        fetched = missing * size / (limits.mapped_bandwidth * _EVICTING_SHARE)
        return fetched + (1 - missing) * size / limits.cached_bandwidth

    def _opening(self, module: Module) -> float:
        return module.tensors * self._tensor_seconds


_ATTENDING = (FULL, "sliding_attention", "hybrid", "hybrid_sliding", "chunked_attention")


def _likeness(footprint: Footprint, module: Module) -> object:
    """What a module has in common with others that cost the same; layers of a model are mostly alike."""
    if module.layer is None:
        return module.name
    kinds = footprint.config.layer_types
    kind = kinds[module.layer] if module.layer < len(kinds) else ""
    growth = (footprint.module_kv_bytes(module, tokens) for tokens in (0, 1, _LONG))
    return (kind, module.bytes, module.plain_bytes, module.active_share, module.tensors, *growth)


def _missing_share(footprint: Footprint, lacking: float) -> float:
    """Of a step's pages, those that are not cached any more when they are used again, by bytes without room.

    Reading all in turns drops each before its next use; tokens pass experts in no order.
    """
    if lacking <= 0:
        return 0.0
    layers = [module for module in footprint.modules if module.layer is not None]
    size = sum(module.plain_bytes for module in footprint.modules)
    has_experts = any(module.active_share < _EXPERT_SHARE for module in layers)
    return min(1.0, lacking / max(1, size)) if has_experts else 1.0


def _tensors_per_file(footprint: Footprint) -> float:
    tensors = sum(module.tensors for module in footprint.modules)
    size = sum(module.plain_bytes for module in footprint.modules)
    return max(1.0, tensors / -(-size // _SHARD_BYTES)) if size else 1.0


def named(figures: dict[str, float], name: str) -> float:
    """A figure by name; without one, that of the plain dtype, or the slowest."""
    return figures.get(name) or figures.get(name.partition(" ")[0]) or min(figures.values(), default=1e9)
