"""Free answers, written token by token behind prompts that are in a cache."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import Cache

from naturelm.answer.choices import Walk
from naturelm.answer.choosing import TokenChooser
from naturelm.answer.results import GenerationOptions, Watcher
from naturelm.model.modeling import NatureLMForConditionalGeneration

_LEAVING = 0.2
"""Share of rows that are done at which these leave the batch. A row costs as much when it is done as when it is not, and
the others' memory is copied when some leave."""
_IDLE_SETTINGS = frozenset(
    {
        "_from_model_config",
        "bos_token_id",
        "cache_implementation",
        "do_sample",
        "eos_token_id",
        "max_length",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "temperature",
        "top_k",
        "top_p",
        "transformers_version",
        "use_cache",
    }
)
"""Of a language model, those that change nothing about which token is likeliest."""


def takes_likeliest(model: NatureLMForConditionalGeneration, options: GenerationOptions) -> bool:
    """Whether free answers are the likeliest tokens, one after the other, as the logits have them.

    Not where the language model's own settings change logits, such as a penalty for repeating.
    """
    settings = model.language_model.generation_config.to_diff_dict()
    return options.num_beams == 1 and options.temperature == 0 and _IDLE_SETTINGS.issuperset(settings)


@dataclass(eq=False)
class FreeRow:
    """A free answer while it is written.

    query: its place, by which a watcher knows it. tokens, log_probs: so far. done: at its end, at its longest, or wanted
    no more.
    """

    query: int
    options: GenerationOptions
    generator: torch.Generator
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    done: bool = False

    def follow(self, walk: Walk, ends: Collection[int]) -> None:
        """Begin with what is known, up to an end or the longest that is wanted."""
        length = next((i + 1 for i, token in enumerate(walk.tokens) if token in ends), len(walk.tokens))
        length = min(length, self.options.max_new_tokens)
        self.tokens += walk.tokens[:length]
        self.log_probs += walk.log_probs[:length]
        self.done = length == self.options.max_new_tokens or self.tokens[-1] in ends


def write_answers(
    model: NatureLMForConditionalGeneration,
    rows: Sequence[FreeRow],
    cache: Cache,
    ids: Tensor,
    mask: Tensor,
    ends: Collection[int],
    watcher: Watcher | None,
) -> None:
    """Write all rows to their ends.

    cache: of the beginning of the prompts, which is used up. ids, mask: (rows, tokens), padded on the left, of prompts and
    what is written already. ends: ids that end an answer. watcher: follows each token.
    """
    while True:
        chooser = TokenChooser([row.options for row in rows], [row.generator for row in rows], ids.device)
        written = model.language_model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            max_new_tokens=max(row.options.max_new_tokens - len(row.tokens) for row in rows),
            do_sample=False,
            logits_processor=LogitsProcessorList([chooser]),
            stopping_criteria=StoppingCriteriaList([_Leaving(rows, chooser, ends, watcher)]),
        )
        staying = [place for place, row in enumerate(rows) if not row.done]
        if not staying:
            return
        places = torch.tensor(staying, device=ids.device)
        mask = torch.cat([mask, mask.new_ones(len(rows), written.shape[1] - ids.shape[1])], 1)[places]
        rows, ids = [rows[place] for place in staying], written[places]
        if len(staying) < len(written):
            cache.batch_select_indices(places)


class _Leaving(StoppingCriteria):
    """Notes each row's token, and stops the batch when some rows can leave it."""

    def __init__(
        self,
        rows: Sequence[FreeRow],
        chooser: TokenChooser,
        ends: Collection[int],
        watcher: Watcher | None,
    ) -> None:
        self.rows = rows
        self.chooser = chooser
        self.ends = ends
        self.watcher = watcher

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        written = zip(self.rows, input_ids[:, -1].tolist(), self.chooser.log_probs.tolist(), strict=True)
        for row, token, log_prob in written:
            if row.done:
                continue
            row.tokens.append(token)
            row.log_probs.append(log_prob)
            row.done = len(row.tokens) >= row.options.max_new_tokens or token in self.ends
            if self.watcher is not None:
                self.watcher.wrote(row.query, token, log_prob)
                row.done = row.done or self.watcher.unwanted(row.query)
        done = [row.done for row in self.rows]
        if sum(done) >= _LEAVING * len(done):
            done = [True] * len(done)
        return torch.tensor(done, device=input_ids.device)


def search_beams(
    model: NatureLMForConditionalGeneration,
    options: GenerationOptions,
    cache: Cache,
    ids: Tensor,
    mask: Tensor,
) -> list[tuple[list[int], list[float]]]:
    """Each row's tokens by beam search and their log probabilities, with what is after their end.

    cache: of the beginning of the prompts, each `options.num_beams` times. ids, mask: as in `write_answers`.
    """
    output = model.language_model.generate(
        input_ids=ids,
        attention_mask=mask,
        past_key_values=cache,
        max_new_tokens=options.max_new_tokens,
        num_beams=options.num_beams,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    log_probs = model.language_model.compute_transition_scores(
        output.sequences, output.scores, output.beam_indices, normalize_logits=False
    )
    written = output.sequences[:, ids.shape[1] :]
    return list(zip(written.tolist(), log_probs.tolist(), strict=True))
