"""Questions to put to the benchmarked systems."""

from collections.abc import Sequence

import numpy as np

from naturelm.bench.models.base import BenchAnswer, BenchItem, BenchModel

RATE = 16_000


def tone(hertz: float = 1000.0, seconds: float = 1.0, *, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """(samples,) float32 with a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * hertz * time) + 0.01 * noise).astype(np.float32)


def an_item(number: int = 0, waveform: np.ndarray | None = None, **changes: object) -> BenchItem:
    fields = {
        "id": f"row-{number}",
        "dataset_name": "calls",
        "task": "classification",
        "prompt": "What is the common name for the focal species in the audio?",
        "waveform": tone(500 + 300 * number, seed=number) if waveform is None else waveform,
        "sample_rate": RATE,
        "labels": ("Owl", "Dog", "Cat"),
    }
    return BenchItem(**{**fields, **changes})


def same_in_any_order_and_batch(
    system: BenchModel, batch: Sequence[BenchItem], *, tolerance: float = 1e-5
) -> list[BenchAnswer]:
    """The answers to a batch, after checking that each is the same alone and in the batch turned round."""
    answers = list(system.answer(batch))
    assert len(answers) == len(batch)
    turned = list(system.answer(batch[::-1]))[::-1]
    alone = [answer for item in batch for answer in system.answer([item])]
    for other in (turned, alone):
        for one, two in zip(answers, other, strict=True):
            assert one.prediction == two.prediction
            assert (one.scores is None) == (two.scores is None)
            if one.scores is not None and two.scores is not None:
                assert list(one.scores) == list(two.scores)
                np.testing.assert_allclose(
                    list(one.scores.values()), list(two.scores.values()), atol=tolerance
                )
    return answers
