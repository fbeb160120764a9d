"""NatureLM as the engine of a scan: labels scored in one pass, questions answered, over one hearing of each window."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Answer, Clip, GenerationOptions, Query, check_choices
from naturelm.audio.sources import FloatArray
from naturelm.scan.listening import Kind, OutOfMemory, Said
from naturelm.scan.options import DETECTION_QUESTION, Label, ScanError

_CPU_BATCH = 8  # the language model reads its weights once a step for all; more gain nothing on a CPU
_MOST_ON_GPU = 256
_TRIED_ON_GPU = 4
_SHARE_OF_MEMORY = 0.6


class NatureLMListener:
    """Scores labels against each other and `None of these`, and writes answers (see `Listener`).

    labels: what to look for. questions: to be answered freely. Raises ScanError where there is neither.
    """

    alike = False

    def __init__(
        self,
        model: NatureLM,
        labels: tuple[Label, ...] = (),
        questions: tuple[str, ...] = (),
        options: GenerationOptions | None = None,
    ) -> None:
        if not labels and not questions:
            raise ScanError("nothing to look for: give --detect, --labels, --ask or --preset")
        if any(not question.strip() for question in questions):
            raise ScanError("--ask: the question is empty; ask something")
        self._model = model
        self._options = options or GenerationOptions()
        self._questions = questions
        self._choices = check_choices([label.text for label in labels], True) if labels else ()
        self.name = model.name
        self.labels = labels
        self.sample_rate = model.sampling_rate
        self.default_window = float(model.model.config.clip_seconds)
        self.longest_window = float(model.model.config.max_clip_seconds)
        self.batch_size = self._fitting_batch() if model.model.device.type == "cuda" else _CPU_BATCH

    @property
    def identity(self) -> Mapping[str, object]:
        """What its scores depend on."""
        return {
            "model": self.name,
            "revision": self._model.revision,
            "dtype": str(self._model.model.language_model.dtype),
            "labels": [label.text for label in self.labels],
            "questions": list(self._questions),
            "max_new_tokens": self._options.max_new_tokens,
        }

    def prepare(self, windows: Sequence[FloatArray]) -> list[Clip]:
        """See `Listener.prepare`: the ear's filter bank."""
        clips = [Clip(samples, end=len(samples) / self.sample_rate) for samples in windows]
        with _memory():
            return self._model.prepare(clips)

    def listen(self, prepared: Sequence[Clip]) -> list[tuple[Said, ...]]:
        """See `Listener.listen`."""
        clips = prepared
        queries = []
        for clip in clips:
            if self._choices:
                queries.append(Query((clip,), DETECTION_QUESTION, self._choices))
            queries += [Query((clip,), question) for question in self._questions]
        # All windows are heard, and all their questions answered, at once.
        self._model.batch_size = max(1, len(clips))
        try:
            with _memory():
                answers = self._model.answer(queries, self._options)
        finally:
            # A window comes once: what was heard of it serves its own questions alone.
            self._model.clear_cache()
        each = len(queries) // max(1, len(clips))
        return [
            tuple(said for answer in answers[first : first + each] for said in self._said(answer))
            for first in range(0, len(answers), each or 1)
        ]

    def _said(self, answer: Answer) -> list[Said]:
        if not answer.choices:
            return [Said(Kind.ANSWER, answer.question, answer.text, answer.probability)]
        scores = {choice.label: choice.probability for choice in answer.choices}
        return [Said(Kind.LABEL, "", label, scores[label]) for label in self._choices]

    def _fitting_batch(self) -> int:
        """Windows that fill most of what a GPU has left, judged from a few of them."""
        device = self._model.model.device
        noise = np.random.default_rng(0).standard_normal(round(self.default_window * self.sample_rate)) * 0.1
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            self.listen(self.prepare([noise.astype(np.float32)] * _TRIED_ON_GPU))
        except OutOfMemory:
            return 1
        each = max(1, torch.cuda.max_memory_allocated(device) - before) / _TRIED_ON_GPU
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        return int(min(max(1, _SHARE_OF_MEMORY * free // each), _MOST_ON_GPU))


@contextmanager
def _memory() -> Iterator[None]:
    """Whatever says that there is no memory left says so in one way."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _no_room(error) from error
    except RuntimeError as error:
        # So a CPU says it.
        if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise _no_room(error) from error


def _no_room(error: Exception) -> OutOfMemory:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return OutOfMemory(" ".join(str(error).split())[:200] or "out of memory")
