"""Trains a small Llama from random weights on conversations; the guide is made with it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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
LONGEST = 1024
EMBEDDING_DROPOUT = 0.05
CJK = Regex(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")


Example = tuple[list[int], list[int]]
"""The ids of one conversation, and the same ids where the loss counts, IGNORED elsewhere."""


@dataclass(frozen=True)
class Course:
    """How a model is trained.

    Attributes:
        steps: of the optimizer.
        rate: the highest learning rate.
        report: print the loss every so many steps.
    """

    steps: int
    rate: float
    report: int


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer for the texts, with every CJK character apart."""
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
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=PAD, model_max_length=CONTEXT_WINDOW
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(vocabulary: int, hidden: int, layers: int, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights and tied embeddings, in float32."""
    torch.manual_seed(seed)
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


def resume(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A model of an earlier run and its tokenizer, in float32, to be trained further."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model, PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


class Encoder:
    """Turns conversations into ids, and those the loss counts on."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Keep the tokenizer's fast core and its special ids."""
        self._core: Tokenizer = tokenizer.backend_tokenizer
        self._end = self._core.token_to_id(END)
        self._role = {role: self._core.token_to_id(f"<|{role}|>") for role in ("system", "user", "assistant")}

    def encode(self, system: str, talk: list[tuple[str, str]], longest: int | None = None) -> Example:
        """One conversation of (question, answer) pairs; the loss counts on the answers.

        Args:
            system: its system prompt, or "".
            talk: the pairs.
            longest: tokens after which every answer is cut; None leaves them whole.
        """
        ids: list[int] = []
        labels: list[int] = []
        for role, text in self._messages(system, talk):
            whole = [*self._ids(text), self._end]
            body = whole[:longest] if role == "assistant" else whole
            ids += [self._role[role], *body]
            labels += [IGNORED, *(body if role == "assistant" else [IGNORED] * len(body))]
        return ids, labels

    def _messages(self, system: str, talk: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        if system:
            yield "system", system
        for question, answer in talk:
            yield "user", question
            yield "assistant", answer

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._core.encode(text, add_special_tokens=False).ids
        return ids


def padded(examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad examples into (ids, labels) of shape (examples, tokens), each cut at LONGEST tokens."""
    ids = _padded([ids[:LONGEST] for ids, _ in examples], 0)
    return ids, _padded([labels[:LONGEST] for _, labels in examples], IGNORED)


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


def train(model: LlamaForCausalLM, source: Iterator[list[Example]], course: Course) -> None:
    """Run AdamW over the batches; leaves the weights as bfloat16 will hold them."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    started, smooth = time.monotonic(), math.log(VOCABULARY)
    blur = model.model.embed_tokens.register_forward_hook(_blurred)
    model.train()
    for step in range(course.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, course.steps, course.rate)
        loss = _one_step(model, optimizer, *padded(next(source)))
        smooth = 0.98 * smooth + 0.02 * loss
        if step % course.report == 0:
            print(f"step {step} loss {smooth:.4f} {time.monotonic() - started:.0f} s", flush=True)
    blur.remove()
    model.to(torch.bfloat16).float()


def _blurred(_module: torch.nn.Module, _inputs: object, embedded: torch.Tensor) -> torch.Tensor:
    """Embeddings with some dropped, so that no single word of a question is relied upon."""
    return torch.nn.functional.dropout(embedded, EMBEDDING_DROPOUT)


def _one_step(
    model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, ids: torch.Tensor, labels: torch.Tensor
) -> float:
    with torch.autocast("cpu", torch.bfloat16):
        loss = answer_loss(model, ids, labels)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


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


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the checkpoint in bfloat16 beside its tokenizer, template and generation_config."""
    model.generation_config.update(do_sample=False, eos_token_id=1, pad_token_id=0, max_new_tokens=200)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
