"""Nothing is heard twice, and nothing is served that was heard in another sound or with other weights."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from asking import QUESTION, SHORT, assert_same, attentive, clip, counted_clips, fresh, mixed_queries, query
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from naturelm.answer.cache import ByteLimitedCache, clip_key
from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Answer, Clip, GenerationOptions, Query
from tiny import noise, tiny_naturelm

# --- other sound ---------------------------------------------------------------------------------


def differing_between_samples() -> tuple[np.ndarray, np.ndarray]:
    """Two clips alike in their first, middle and last thousand samples and at a thousand even places between."""
    one, other = noise(1.0, seed=1), noise(1.0, seed=2)
    alike = np.zeros(len(one), dtype=bool)
    for first in (0, 7_500, 15_000):
        alike[first : first + 1000] = True
    alike[np.linspace(0, len(one) - 1, 1000).round().astype(int)] = True
    alike[:: len(one) // 1000] = True
    return one, np.where(alike, one, other)


def test_clips_that_agree_almost_everywhere_looked_at_are_two_clips(either: NatureLM) -> None:
    one, other = differing_between_samples()
    assert clip_key(one) != clip_key(other)
    batch = either.processor.feature_extractor([one, other])
    with torch.no_grad():
        heard = either.model.get_audio_features(batch["input_values"], batch["input_features_mask"])
    assert (heard[0] - heard[1]).abs().max() > 0.01
    first, second = either.ask(one, QUESTION, options=SHORT), either.ask(other, QUESTION, options=SHORT)
    assert first.token_log_probs != pytest.approx(second.token_log_probs, abs=1e-3)
    assert_same([second], [fresh(either).ask(other, QUESTION, options=SHORT)])


@settings(max_examples=50)
@given(st.integers(0, 15_999))
def test_every_sample_is_in_the_key(place: int) -> None:
    one = noise(1.0)
    other = one.copy()
    other[place] += 1e-6
    assert clip_key(one) == clip_key(one.copy())
    assert clip_key(one) != clip_key(other)
    assert clip_key(one) != clip_key(one[:-1])


# --- other weights -------------------------------------------------------------------------------


def in_place(model: torch.nn.Module) -> None:
    with torch.no_grad():
        model.language_model.model.layers[0].mlp.up_proj.weight.add_(0.05)


def one_value_in_place(model: torch.nn.Module) -> None:
    with torch.no_grad():
        model.projector.linear.bias[5] += 1.0


def lora_by_data(model: torch.nn.Module) -> None:
    for layer in model.lora_layers():
        layer.lora_B["default"].weight.data.mul_(-3.0)


def ear_by_data(model: torch.nn.Module) -> None:
    model.ear.layers[0].fc1.weight.data += 0.5


def other_state(model: torch.nn.Module) -> None:
    model.load_state_dict({name: tensor * 1.2 for name, tensor in model.state_dict().items()})


def optimizer_step(model: torch.nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    ids = torch.arange(3, 23).unsqueeze(0)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()


def optimizer_step_on_the_ear(model: torch.nn.Module) -> None:
    optimizer = torch.optim.AdamW(model.ear.parameters(), lr=0.05)
    torch.cat(model.get_audio_features(torch.from_numpy(noise(0.5)[None]))).square().sum().backward()
    optimizer.step()


def merged_by_half(model: torch.nn.Module) -> None:
    model.merge_lora(0.5)


CHANGES = [
    in_place,
    one_value_in_place,
    lora_by_data,
    ear_by_data,
    other_state,
    optimizer_step,
    optimizer_step_on_the_ear,
    merged_by_half,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_nothing_stale_after_a_change_of_weights(change: Callable[[torch.nn.Module], None]) -> None:
    naturelm = attentive(tiny_naturelm())
    queries = [query(seed=1), query(seed=1, choices=("Dog", "Cat")), query(seed=2, seconds=0.8)]
    before = naturelm.answer(queries, SHORT)
    change(naturelm.model)
    after = naturelm.answer(queries, SHORT)
    assert_same(after, fresh(naturelm).answer(queries, SHORT), tolerance=1e-6)
    assert all(
        a.probability != pytest.approx(b.probability, rel=1e-4) for a, b in zip(after, before, strict=True)
    )


# --- another merging alpha -----------------------------------------------------------------------


def test_merging_alpha_is_forgotten_after_its_call(naturelm: NatureLM) -> None:
    queries = mixed_queries(4)
    half = GenerationOptions(max_new_tokens=6, merging_alpha=0.5)
    expected = fresh(naturelm).answer(queries, half)
    before = naturelm.answer(queries, SHORT)
    halved = naturelm.answer(queries, half)
    assert_same(halved, expected)
    assert_same(naturelm.answer(queries, SHORT), before, tolerance=0)
    for one, other in zip(halved, before, strict=True):
        assert one.token_log_probs != pytest.approx(other.token_log_probs, abs=1e-3)


def test_the_adapter_scaled_by_the_caller_is_another_adapter(naturelm: NatureLM) -> None:
    before = naturelm.answer([query()], SHORT)
    with naturelm.model.merging_alpha(0.5):
        inside = naturelm.answer([query()], SHORT)
    assert_same(
        inside, fresh(naturelm).answer([query()], GenerationOptions(max_new_tokens=6, merging_alpha=0.5))
    )
    assert_same(naturelm.answer([query()], SHORT), before, tolerance=0)


# --- once ----------------------------------------------------------------------------------------


def test_a_clip_is_heard_once_for_all_questions_and_calls(either: NatureLM) -> None:
    sounds = [noise(0.5, seed=1), noise(0.5, seed=2), noise(0.7, seed=3)]
    with counted_clips(either) as heard:
        either.ask(sounds, ["Dog?", "Cat?", "What else?"], options=SHORT)
        assert sum(heard) == 3
        either.ask(sounds[1].copy(), "How many?", options=SHORT)
        either.ask(sounds, "Which?", choices=["Dog", "Cat"])
        # Another adapter reads the same sound.
        either.ask(sounds, "Dog?", options=GenerationOptions(max_new_tokens=2, merging_alpha=0.5))
        # So does another prompt before the sound, and a second place for it.
        either.answer(
            [Query((clip(0.5, seed=1), clip(0.5, seed=1)), "Is <AudioHere> like <AudioHere>?")], SHORT
        )
        assert sum(heard) == 3
        either.ask(noise(0.5, seed=4), "Dog?", options=SHORT)
        assert sum(heard) == 4


def test_seconds_are_counted_where_the_work_was_done(naturelm: NatureLM) -> None:
    first, second = naturelm.ask(noise(0.5), ["Dog?", "Cat?"], options=SHORT)
    assert first.seconds.hear > 0 < first.seconds.prefill
    assert (second.seconds.hear, second.seconds.prefill) == (0, 0)
    assert second.seconds.answer > 0
    again = naturelm.ask(noise(0.5), "Dog?", options=SHORT)
    assert (again.seconds.hear, again.seconds.prefill) == (0, 0)


def test_clear_cache_hears_again(naturelm: NatureLM) -> None:
    with counted_clips(naturelm) as heard:
        first = naturelm.ask(noise(0.5), QUESTION, options=SHORT)
        naturelm.clear_cache()
        second = naturelm.ask(noise(0.5), QUESTION, options=SHORT)
    assert sum(heard) == 2
    assert_same([first], [second], tolerance=0)


# --- the limit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cache_bytes", [0, 6_000])
def test_a_small_cache_answers_rightly(naturelm: NatureLM, cache_bytes: int) -> None:
    queries = mixed_queries(6) * 2
    expected = fresh(naturelm).answer(queries, SHORT)
    small = fresh(naturelm, cache_bytes=cache_bytes, batch_size=2)
    for _ in range(2):
        assert_same(small.answer(queries, SHORT), expected)


def test_no_cache_no_memory(naturelm: NatureLM) -> None:
    forgetful = fresh(naturelm, cache_bytes=0)
    with counted_clips(naturelm) as heard:
        for _ in range(3):
            forgetful.ask(noise(0.5), QUESTION, options=SHORT)
    assert sum(heard) == 3


def test_the_oldest_is_forgotten_first(naturelm: NatureLM) -> None:
    # One prefix of these is 2,560 bytes; this holds two of five.
    limited = fresh(naturelm, cache_bytes=6_000)
    sounds = [Clip(noise(0.5, seed=seed)) for seed in range(5)]
    for sound in sounds:
        limited.answer([Query((sound,), QUESTION)], SHORT)
    (late,) = limited.answer([Query((sounds[4],), QUESTION)], SHORT)
    (early,) = limited.answer([Query((sounds[0],), QUESTION)], SHORT)
    assert late.seconds.prefill == 0 < early.seconds.prefill


@given(st.integers(0, 100), st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60)), max_size=40))
def test_the_limit_holds_whatever_comes(limit: int, puts: list[tuple[int, int]]) -> None:
    cache: ByteLimitedCache[tuple[int, int]] = ByteLimitedCache(limit)
    sizes: dict[int, int] = {}
    for key, size in puts:
        cache.put(key, (key, size), size)
        sizes[key] = size
        kept = [k for k in sizes if cache.get(k) is not None]
        assert cache.used == sum(sizes[k] for k in kept) <= limit
        assert len(cache) == len(kept)
        assert all(cache.get(k) == (k, sizes[k]) for k in kept)
        assert (key in kept) == (size <= limit)


def test_answers_do_not_depend_on_what_was_asked_before(either: NatureLM) -> None:
    queries = mixed_queries(8)
    expected: list[Answer] = fresh(either).answer(queries, SHORT)
    warm = fresh(either)
    warm.answer(queries[3:5] + queries[:1], SHORT)
    warm.answer(queries[5:6], GenerationOptions(max_new_tokens=3, num_beams=2))
    assert_same(warm.answer(queries, SHORT), expected)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(6)))
def test_clips_of_unlike_lengths_are_heard_as_if_alone(either: NatureLM, order: list[int]) -> None:
    queries = mixed_queries(6)
    expected = fresh(either, batch_size=1).answer(queries, SHORT)
    found = fresh(either).answer([queries[i] for i in order], SHORT)
    assert_same(found, [expected[i] for i in order])
