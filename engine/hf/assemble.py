"""A loaded model, its tokenizer and its configuration, joined to what a turn needs."""

from __future__ import annotations

from engine.checkpoint import Verdict
from engine.hf.decode import Runner
from engine.hf.load import PlacedModel
from engine.hf.loaded import LoadedModel
from engine.hf.old_tokenizer import reply_ends
from engine.hf.packed import unpacking_told
from engine.hf.prompt import PromptWriter
from engine.hf.protocols import TextTokenizer
from engine.hf.reasoning import OPEN
from engine.hf.window import Window
from engine.values import Placement, Quantization, SamplingParams, Tier

USUAL_TOP_K = 50


def assembled(
    verdict: Verdict, placement: Placement, tokenizer: TextTokenizer, runner: Runner, placed: PlacedModel
) -> LoadedModel:
    """Join the parts of a loaded model."""
    writer = PromptWriter(tokenizer)
    tokens = min(placement.context_window, verdict.config.context_window)
    template = str(getattr(tokenizer, "chat_template", None) or "")
    return LoadedModel(
        tokenizer=tokenizer,
        runner=runner,
        writer=writer,
        window=Window(writer, tokens),
        ends=_ends(verdict, tokenizer),
        sampling=recommended(verdict.config.sampling),
        weights=placed.weights(),
        tags_anywhere=OPEN in tokenizer.get_added_vocab() or OPEN in template,
    )


def recommended(said: SamplingParams) -> SamplingParams:
    """Fill what the checkpoint leaves open with what transformers would take."""
    temperature = 1.0 if said.temperature is None else said.temperature
    top_k = USUAL_TOP_K if said.top_k is None else said.top_k
    return SamplingParams(
        temperature=temperature,
        top_p=said.top_p or 1.0,
        top_k=top_k,
        min_p=said.min_p or 0.0,
        repetition_penalty=said.repetition_penalty or 1.0,
        max_new_tokens=said.max_new_tokens,
    )


def notes(
    verdict: Verdict, placement: Placement, loaded: LoadedModel, placed: PlacedModel
) -> tuple[str, ...]:
    """Say what the person should know about this load."""
    sentences = [*verdict.warnings, *unpacking_told(verdict.config)]
    tiers = placement.tier_counts()
    asked = placement.quantization
    if not loaded.writer.template.exists:
        sentences.append("The model has no chat template: a plain User/Assistant transcript stands in.")
    if verdict.config.quantization and asked is not Quantization.NONE:
        sentences.append(f"It is stored as {verdict.config.quantization} already; {asked} was not applied.")
    if placement.context_window > loaded.window.tokens:
        sentences.append(f"The model was made for {loaded.window.tokens:,} tokens of context, not for more.")
    if Tier.GPU in tiers and Tier.CPU in tiers:
        sentences.append("Layers in RAM are copied to the GPU for each token, not computed on the CPU.")
    if placed.streamed.reason:
        sentences.append(placed.streamed.reason)
    if placed.uses_hooks:
        sentences.append("Layers on disk are read by accelerate's hooks, one tensor after the other.")
    if not loaded.runner.continues:
        sentences.append("Its recurrent layers take a prompt only whole or token by token.")
    return tuple(sentences)


def _ends(verdict: Verdict, tokenizer: TextTokenizer) -> frozenset[int]:
    """Every id that the generation config, the config, the tokenizer or an old family calls the end."""
    own = tokenizer.eos_token_id
    said = reply_ends(verdict.folder, tokenizer)
    return frozenset(verdict.config.eos_token_ids) | said | (frozenset() if own is None else {own})
