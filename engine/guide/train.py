"""Trains the guide from nothing but the text in this folder: `python -m engine.guide.train`.

A byte-level tokenizer (every CJK character apart), then a small Llama trained on random conversations drawn
from the facts; the loss is counted on the answers only. The weights are written in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.guide import FOLDER
from engine.guide.corpus import Fact, Unknown, read_facts, read_unknown
from engine.guide.talks import AFTER, AGAIN, BEFORE, IN_OTHER, MORE, NO_MORE, SYSTEM, Exchange, TalkMaker

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
VOCABULARY = 4096
CONTEXT_WINDOW = 2048
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
IGNORED = -100
WARM_UP_STEPS = 100
CJK = Regex(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")


def make_tokenizer(facts: list[Fact], unknown: list[Unknown]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer for the corpus; unknown characters fall back on bytes."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(CJK, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_texts(facts, unknown), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=PAD, model_max_length=CONTEXT_WINDOW
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _texts(facts: list[Fact], unknown: list[Unknown]) -> Iterator[str]:
    for fact in facts:
        yield from (*fact.ask, *(question.lower() for question in fact.ask), fact.answer, fact.more)
    for entry in unknown:
        yield from (*entry.ask, *entry.answers)
    for table in (MORE, AGAIN, IN_OTHER, BEFORE, AFTER):
        for phrases in table.values():
            yield from phrases
    yield from (*NO_MORE.values(), *SYSTEM)


def make_model(vocabulary: int, hidden: int, layers: int) -> LlamaForCausalLM:
    """A Llama with random weights and tied embeddings, in float32."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64,
        head_dim=32,
        max_position_embeddings=CONTEXT_WINDOW,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


class Encoder:
    """Turns conversations into (ids, labels); pieces are tokenized once and kept."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Keep the tokenizer's fast core and its special ids."""
        self._core: Tokenizer = tokenizer.backend_tokenizer
        self._end = self._core.token_to_id(END)
        self._role = {role: self._core.token_to_id(f"<|{role}|>") for role in ("system", "user", "assistant")}
        self._kept: dict[str, list[int]] = {}

    def encode(self, system: str, talk: list[Exchange]) -> tuple[list[int], list[int]]:
        """Ids of one conversation, and the same ids where the loss counts, IGNORED elsewhere."""
        ids: list[int] = []
        labels: list[int] = []
        for role, text in self._messages(system, talk):
            body = [*self._ids(text), self._end]
            ids += [self._role[role], *body]
            labels += [IGNORED, *(body if role == "assistant" else [IGNORED] * len(body))]
        return ids, labels

    def _messages(self, system: str, talk: list[Exchange]) -> Iterator[tuple[str, str]]:
        if system:
            yield "system", system
        for question, answer in talk:
            yield "user", question
            yield "assistant", answer

    def _ids(self, text: str) -> list[int]:
        if text not in self._kept:
            self._kept[text] = self._core.encode(text, add_special_tokens=False).ids
        return self._kept[text]


def batches(maker: TalkMaker, encoder: Encoder, tokens: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (ids, labels) of about that many tokens, mostly single exchanges, some long talks."""
    sources = {exchanges: maker.talks(exchanges) for exchanges in (1, 2, 4, 12)}
    while True:
        exchanges = maker.chance.choices((1, 2, 4, 12), weights=(5, 3, 2, 1))[0]
        rows: list[tuple[list[int], list[int]]] = []
        while sum(len(ids) for ids, _ in rows) < tokens:
            ids, labels = encoder.encode(*next(sources[exchanges]))
            rows.append((ids[:1024], labels[:1024]))
        yield _padded([ids for ids, _ in rows], 0), _padded([labels for _, labels in rows], IGNORED)


def _padded(rows: list[list[int]], filler: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])


def answer_loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy over the answers' tokens; the head runs on those positions only."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    counted = targets != IGNORED
    logits = model.lm_head(hidden[counted])
    loss: torch.Tensor = torch.nn.functional.cross_entropy(logits.float(), targets[counted])
    return loss


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < WARM_UP_STEPS:
        return peak * (step + 1) / WARM_UP_STEPS
    share = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


def train(
    model: LlamaForCausalLM, source: Iterator[tuple[torch.Tensor, torch.Tensor]], options: argparse.Namespace
) -> None:
    """Run AdamW over the batches for the given number of steps; prints the loss now and then."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    started, smooth = time.monotonic(), 0.0
    model.train()
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options.steps, options.rate)
        with torch.autocast("cpu", torch.bfloat16):
            loss = answer_loss(model, *next(source))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        if step % options.report == 0:
            print(f"step {step} loss {smooth:.4f} {time.monotonic() - started:.0f} s", flush=True)


@torch.inference_mode()
def answers(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[str]) -> list[str]:
    """Greedy answers to single questions, in batches."""
    model.eval()
    tokenizer.padding_side = "left"
    out: list[str] = []
    for start in range(0, len(questions), 64):
        prompts = [f"<|user|>{question}<|end|><|assistant|>" for question in questions[start : start + 64]]
        batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        ids = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=96,
            do_sample=False,
        )
        out += tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return out


def held_out_shares(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, facts: list[Fact], unknown: list[Unknown]
) -> dict[str, float]:
    """Share of held-out phrasings whose answer holds the fact, and of off-topic ones that are declined."""
    shares = {}
    for entry in unknown:
        asked = [
            (fact, question)
            for fact in facts
            if fact.language == entry.language
            for question in fact.held_out
        ]
        said = answers(model, tokenizer, [question for _, question in asked])
        held = [fact.is_held_by(text) for (fact, _), text in zip(asked, said, strict=True)]
        shares[f"{entry.language}_facts"] = sum(held) / len(held)
        declined = [text in entry.answers for text in answers(model, tokenizer, list(entry.held_out))]
        shares[f"{entry.language}_unknown"] = sum(declined) / len(declined)
    return shares


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the checkpoint in bfloat16 beside its tokenizer, template and generation_config."""
    model.generation_config.update(do_sample=False, eos_token_id=1, pad_token_id=0, max_new_tokens=200)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Train, measure on what was held out, and write the checkpoint."""
    options = _options()
    torch.manual_seed(options.seed)
    facts, unknown = read_facts(), read_unknown()
    tokenizer = make_tokenizer(facts, unknown)
    model = make_model(len(tokenizer), options.hidden, options.layers)
    maker = TalkMaker(facts, unknown, random.Random(options.seed))
    print(f"{len(facts)} facts, {model.num_parameters():,} parameters", flush=True)
    train(model, batches(maker, Encoder(tokenizer), options.tokens), options)
    model.to(torch.bfloat16).float()
    print(json.dumps(held_out_shares(model, tokenizer, facts, unknown)), flush=True)
    save(model, tokenizer, options.folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens per step, about")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--report", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
