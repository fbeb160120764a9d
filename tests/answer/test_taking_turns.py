"""One engine asked from several threads gives each of them what it would get alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from asking import assert_same, attentive, fresh, mixed_queries, query

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Answer, GenerationOptions
from naturelm.model.processing import NatureLMProcessor
from tiny import tiny_naturelm

ALPHAS = (0.0, 0.5, 1.0, 2.0)


def test_threads_with_unlike_adapters_get_what_they_asked_for(naturelm: NatureLM) -> None:
    queries = [*mixed_queries(3), query("Which of the two?", 0.4, 9, ("Dog", "Cat"))]

    def ask(engine: NatureLM, alpha: float) -> list[Answer]:
        return engine.answer(queries, GenerationOptions(max_new_tokens=4, merging_alpha=alpha))

    expected = {alpha: ask(fresh(naturelm), alpha) for alpha in ALPHAS}
    assert len({answers[0].token_log_probs for answers in expected.values()}) == len(ALPHAS)
    shared = fresh(naturelm)
    starting = threading.Barrier(len(ALPHAS))

    def repeatedly(alpha: float) -> list[list[Answer]]:
        starting.wait()
        found = []
        for _ in range(4):
            found.append(ask(shared, alpha))
            if alpha == 1.0:
                shared.clear_cache()
        return found

    with ThreadPoolExecutor(len(ALPHAS)) as pool:
        results = dict(zip(ALPHAS, pool.map(repeatedly, ALPHAS), strict=True))
    for alpha, rounds in results.items():
        for answers in rounds:
            assert_same(answers, expected[alpha])


class WatchedProcessor(NatureLMProcessor):
    """Notes how many threads are in it at once; a fast tokenizer's settings stand only one."""

    inside = 0
    most = 0

    def _watched(self, work: object, *arguments: object) -> object:
        cls = type(self)
        cls.inside += 1
        cls.most = max(cls.most, cls.inside)
        time.sleep(0.002)
        try:
            return work(*arguments)
        finally:
            cls.inside -= 1

    def prompt_ids(self, *arguments: object) -> object:
        return self._watched(super().prompt_ids, *arguments)

    def answer_ids(self, *arguments: object) -> object:
        return self._watched(super().answer_ids, *arguments)


def test_one_thread_at_a_time_uses_the_tokenizer() -> None:
    tiny = attentive(tiny_naturelm())
    watched = WatchedProcessor.from_model_config(tiny.model.config, tiny.processor.tokenizer)
    shared = NatureLM(tiny.model, watched)
    asked = [query("Dog <|im_end|> or cat?", 0.3, 1, ("Dog", "Cat", "Bunting"))]
    with ThreadPoolExecutor(4) as pool:
        rounds = list(pool.map(lambda _: shared.answer(asked), range(8)))
    assert WatchedProcessor.most == 1
    for answers in rounds:
        assert_same(answers, tiny.answer(asked))
