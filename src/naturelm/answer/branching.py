"""All labels of a closed set through the language model at once, behind prompts that are in a cache."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from naturelm.answer.choices import LabelTrie, split_sequences, trie_log_likelihoods
from naturelm.model.modeling import NatureLMForConditionalGeneration

# Logits are (rows, nodes, vocabulary), in float64 while they are summed: this many are 512 MB.
_MAX_TRIE_LOGITS = 2**26


def sequence_log_likelihoods(
    model: NatureLMForConditionalGeneration,
    sequences: Sequence[tuple[int, ...]],
    cache: DynamicCache,
    ids: Tensor,
    mask: Tensor,
) -> Tensor:
    """(batch, sequences) float64 natural log likelihood of each token sequence after each prompt.

    cache: of the beginning of the prompts, which is left as it was. ids, mask: (batch, tokens), padded on the left.
    """
    log_likelihoods = torch.empty(len(ids), len(sequences), dtype=torch.float64)
    max_nodes = max(16, _MAX_TRIE_LOGITS // (len(ids) * model.config.text_config.vocab_size))
    for group in split_sequences(sequences, max_nodes):
        trie = LabelTrie.build([sequences[i] for i in group])
        inner = trie.inner_nodes()
        logits = _branch(model, trie, inner, cache, ids, mask)
        log_likelihoods[:, group] = trie_log_likelihoods(trie, logits, inner).cpu()
    return log_likelihoods


def _branch(
    model: NatureLMForConditionalGeneration,
    trie: LabelTrie,
    nodes: list[int],
    cache: DynamicCache,
    ids: Tensor,
    mask: Tensor,
) -> Tensor:
    """(batch, 1 + nodes, vocabulary) logits after the prompt and after each node.

    One pass over what the cache lacks of the prompt, and the nodes. The cache is left as it was.
    """
    rest = ids[:, cache.get_seq_length() :]
    tokens = torch.tensor([trie.tokens[node] for node in nodes], device=ids.device)
    depths = torch.tensor([trie.depths[node] for node in nodes], device=ids.device)
    positions = (mask.cumsum(1) - 1).clamp_min(0)[:, -rest.shape[1] :]
    visible = mask.new_zeros(
        (len(ids), rest.shape[1] + len(nodes), mask.shape[1] + len(nodes)), dtype=torch.bool
    )
    visible[:, :, : mask.shape[1]] = mask.bool().unsqueeze(1)
    # The prompt sees what came before, and no label; a node sees the prompt and its ancestors.
    visible[:, : rest.shape[1]] = visible[:, : rest.shape[1]].tril(mask.shape[1] - rest.shape[1])
    visible[:, rest.shape[1] :, mask.shape[1] :] = trie.ancestor_mask(nodes).to(mask.device)
    dtype = model.language_model.dtype
    hidden = torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)
    logits = model(
        inputs_embeds=model.get_input_embeddings()(torch.cat([rest, tokens.expand(len(ids), -1)], 1)),
        attention_mask=hidden.unsqueeze(1),
        position_ids=torch.cat([positions, mask.sum(1, keepdim=True) + depths], 1),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1 + len(nodes),
    ).logits
    cache.crop(-visible.shape[1])  # a negative number takes that many off, in every version
    return logits
