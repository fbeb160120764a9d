"""What the language model reads: nothing twice, and nothing for an answer that is at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from asking import SHORT, assert_same, attentive, clip, fresh, query

from naturelm.answer.choices import LabelTrie
from naturelm.answer.engine import NatureLM
from naturelm.answer.results import GenerationOptions, Query, scored_text
from tiny import tiny_beats_config, tiny_naturelm, tiny_projector_config

LABELS = ("Dog", "Cat", "Green treefrog")


@contextmanager
def read(naturelm: NatureLM) -> Iterator[list[tuple[int, int]]]:
    """(rows, tokens) of every pass through the language model."""
    passes: list[tuple[int, int]] = []

    def note(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        passes.append((given[0].shape[0], given[0].shape[1]))

    hook = naturelm.model.get_decoder().layers[0].register_forward_pre_hook(note)
    try:
        yield passes
    finally:
        hook.remove()


def tokens(passes: list[tuple[int, int]]) -> int:
    return sum(rows * length for rows, length in passes)


def prompt(naturelm: NatureLM, asked: Query) -> tuple[int, int, int]:
    """Tokens before the sound, of the sound, and after it."""
    ids = naturelm.processor.prompt_ids(asked.question, [len(each.samples) for each in asked.clips])
    sound = ids.prefix.count(naturelm.model.config.audio_token_id)
    return len(ids.prefix) - sound, sound, len(ids.suffix)


def test_an_answer_at_its_end_costs_nothing_more(naturelm: NatureLM) -> None:
    queries = [query(seed=seed) for seed in range(6)]
    short, long = GenerationOptions(max_new_tokens=2), GenerationOptions(max_new_tokens=12)
    options = [short] * 5 + [long]
    expected = [fresh(naturelm).answer([q], [o])[0] for q, o in zip(queries, options, strict=True)]
    assert len(expected[5].token_ids) == 12
    with read(naturelm) as passes:
        found = naturelm.answer(queries, options)
    assert_same(found, expected)
    assert sum(rows for rows, length in passes if length == 1) == 6 + 10 * 1


def test_rows_leave_in_any_order(naturelm: NatureLM) -> None:
    lengths = [7, 1, 4, 12, 4, 2, 9, 1, 10]
    options = [
        replace(SHORT, max_new_tokens=length, temperature=float(i % 3), seed=i)
        for i, length in enumerate(lengths)
    ]
    queries = [query(seed=seed) for seed in range(len(options))]
    expected = [fresh(naturelm).answer([q], [o])[0] for q, o in zip(queries, options, strict=True)]
    assert_same(naturelm.answer(queries, options), expected)


def test_a_prompt_asked_twice_is_read_once(naturelm: NatureLM) -> None:
    free, closed = query(), query(choices=LABELS)
    before, sound, after = prompt(naturelm, free)
    expected = [fresh(naturelm).answer([each], SHORT)[0] for each in (free, closed, free)]
    with read(naturelm) as passes:
        found = naturelm.answer([free, closed, free], replace(SHORT, max_new_tokens=1))
    assert found[0].token_ids == found[2].token_ids == expected[0].token_ids[:1]
    assert_same([found[1]], [expected[1]])
    labels = [naturelm.processor.answer_ids(scored_text(label)) for label in LABELS]
    nodes = len(LabelTrie.build(labels).inner_nodes())
    # The last token once: what the closed set's pass gives after it is where the free answers begin.
    assert tokens(passes) == (before + sound) + (after - 1) + 1 + nodes


def test_what_stands_before_the_sound_is_read_once_for_all(naturelm: NatureLM) -> None:
    queries = [query(seed=seed) for seed in range(3)]
    before, sound, after = prompt(naturelm, queries[0])
    one = replace(SHORT, max_new_tokens=1)
    expected = fresh(naturelm, batch_size=1).answer(queries, SHORT)
    with read(naturelm) as passes:
        naturelm.answer(queries, one)
        assert tokens(passes) == before + 3 * (sound + after)
        naturelm.answer([query(seed=9)], one)
        assert tokens(passes) == before + 4 * (sound + after)
    assert_same(naturelm.answer(queries, SHORT), expected)


def test_text_before_the_sound_that_is_another_is_read_as_such(naturelm: NatureLM) -> None:
    queries = [
        Query((clip(seed=1),), "First <AudioHere> then what?"),
        Query((clip(seed=2),), "Second: <AudioHere> and what?"),
        Query((clip(seed=3),), "First <AudioHere> then what?"),
        Query((), "What is a bird?"),
        Query((), "What is a frog?"),
        Query((clip(seed=1), clip(0.7, seed=2)), "Is <AudioHere> like <AudioHere>?"),
    ]
    expected = [fresh(naturelm).answer([each], SHORT)[0] for each in queries]
    assert_same(fresh(naturelm).answer(queries, SHORT), expected)
    assert_same(fresh(naturelm).answer(queries * 2, SHORT), expected * 2)


def test_closed_sets_of_different_rows_take_one_pass(naturelm: NatureLM) -> None:
    sets = [LABELS, ("Dog", "Grey wolf"), LABELS, ("Cat", "Dog", "Red fox", "Owl"), ("Grey wolf", "Dog")]
    queries = [query(seed=seed, choices=own) for seed, own in enumerate(sets)]
    expected = [fresh(naturelm).answer([each])[0] for each in queries]
    naturelm.answer([query(seed=seed) for seed in range(len(sets))], replace(SHORT, max_new_tokens=1))
    with read(naturelm) as passes:
        found = naturelm.answer(queries)
    assert_same(found, expected)
    assert [rows for rows, _ in passes] == [len(sets)]


def test_clips_of_like_length_are_heard_together_where_padding_is_told_from_sound() -> None:
    queries = [query(seconds=0.5 + 0.01 * seed, seed=seed) for seed in range(6)]
    for naturelm, times in ((attentive(tiny_naturelm()), 1), (padding_is_heard(), 6)):
        expected = [fresh(naturelm).answer([each], SHORT)[0] for each in queries]
        heard: list[int] = []
        hook = naturelm.model.ear.register_forward_pre_hook(lambda _, given: heard.append(len(given[0])))  # noqa: B023
        found = naturelm.answer(queries, SHORT)
        hook.remove()
        assert_same(found, expected)
        assert sum(heard) == 6 and len(heard) == times


def padding_is_heard() -> NatureLM:
    return attentive(
        tiny_naturelm(
            audio_config=tiny_beats_config(exact_mask=False),
            projector_config=tiny_projector_config(honour_mask=False),
        )
    )
