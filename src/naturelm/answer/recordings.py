"""Many recordings, window by window, to answers and failures in their order and in bounded memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from naturelm.answer.clips import check_clip, iter_clips
from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Answer, Clip, Failure, GenerationOptions, Query
from naturelm.audio import WindowSpec
from naturelm.errors import AudioError


@dataclass(frozen=True)
class Interview:
    """What every recording is asked.

    choices: the closed set of answers, already checked; empty for free answers.
    windows: how a recording is cut; None takes it whole.
    start, end: the stretch in s; channel: index from 0, None for the mean of all.
    """

    questions: tuple[str, ...]
    choices: tuple[str, ...] = ()
    windows: WindowSpec | None = None
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    options: GenerationOptions = field(default_factory=GenerationOptions)


@dataclass(frozen=True)
class Finished:
    """All that there is to say about one recording has been said."""

    recording: str


def answer_recordings(
    model: NatureLM, recordings: Iterable[str | Path], interview: Interview
) -> Iterator[Answer | Failure | Finished]:
    """Ask recordings one after the other, their windows in shared batches.

    Yields each window's answers in order of time and question. A recording, or a window, that
    cannot be used is a Failure and stops nothing else. Raises QuestionError.
    """
    waiting: list[Clip | Failure | Finished] = []
    clips = 0
    for recording in recordings:
        for item in _clips_or_failure(model, recording, interview):
            waiting.append(item)
            clips += isinstance(item, Clip)
            if clips == model.batch_size:
                yield from _answer(model, waiting, interview)
                waiting, clips = [], 0
        waiting.append(Finished(str(recording)))
    yield from _answer(model, waiting, interview)


def _clips_or_failure(
    model: NatureLM, recording: str | Path, interview: Interview
) -> Iterator[Clip | Failure]:
    stretch = {"start": interview.start, "end": interview.end, "channel": interview.channel}
    try:
        if interview.windows is None:
            yield model.read_clip(recording, **stretch)  # type: ignore[arg-type]
            return
        clips = iter_clips(
            recording,
            interview.windows,
            sample_rate=model.sampling_rate,
            max_seconds=model.model.config.max_clip_seconds,
            **stretch,  # type: ignore[arg-type]
        )
        for clip in clips:
            try:
                check_clip(clip)
            except AudioError as error:
                yield Failure(str(recording), str(error), clip.start, clip.end)
            else:
                yield clip
    except AudioError as error:
        yield Failure(str(recording), str(error))


def _answer(
    model: NatureLM, waiting: Sequence[Clip | Failure | Finished], interview: Interview
) -> Iterator[Answer | Failure | Finished]:
    queries = [
        Query((item,), question, interview.choices)
        for item in waiting
        if isinstance(item, Clip)
        for question in interview.questions
    ]
    answers = iter(model.answer(queries, interview.options))
    for item in waiting:
        if isinstance(item, Clip):
            for _ in interview.questions:
                yield next(answers)
        else:
            yield item
