"""From a chat to the one question that the model answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from naturelm.answer.results import Clip, GenerationOptions, Query, check_choices
from naturelm.errors import QuestionError
from naturelm.model.configuration import AUDIO_TOKEN
from naturelm.model.processing import AUDIO_MARKER
from naturelm.serve.asking import Asked
from naturelm.serve.chat_schema import ChatMessage, ChatRequest, ContentPart
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import Limits, check_options
from naturelm.serve.sound import CONTAINERS, SoundReader

_ROLES = ("system", "developer", "user")
_MOST_STOPS = 4
_LONGEST_STOP = 200
_LONGEST_LABEL = 200


@dataclass(frozen=True)
class Sound:
    """A clip that has not been decoded yet. place: of the request where it stands."""

    data: str
    container: str
    place: str


@dataclass(frozen=True)
class Chat:
    """What a request asks, checked, with its clips still as they were sent.

    stops: texts before which the answer ends. choices: the closed set, () for a free answer.
    """

    question: str
    sounds: tuple[Sound, ...]
    options: GenerationOptions
    stops: tuple[str, ...]
    choices: tuple[str, ...]
    stream: bool
    with_usage: bool
    with_logprobs: bool

    async def asked(self, reader: SoundReader) -> Asked:
        """The question with its clips decoded. Raises RequestFault."""
        clips = [await self._clip(reader, i) for i in range(len(self.sounds))]
        # To end at a stop text the answer has to be followed as well.
        return Asked(
            Query(tuple(clips), self.question, self.choices), self.options, self.stream or bool(self.stops)
        )

    async def _clip(self, reader: SoundReader, index: int) -> Clip:
        sound = self.sounds[index]
        try:
            return await reader.from_base64(sound.data, f"audio {index + 1}", formats=(sound.container,))
        except RequestFault as fault:
            raise RequestFault(fault.kind, str(fault), param=sound.place) from fault


def read_chat(request: ChatRequest, limits: Limits) -> Chat:
    """Raises RequestFault, naming the field, for what is wrong, too much or not supported."""
    request.check_others()
    question, sounds = _question(request.messages, limits)
    choices = _choices(request)
    stops = _stops(request.stop)
    logprobs = bool(request.logprobs)
    if request.top_logprobs:
        raise _invalid("top_logprobs", "only 0 is supported, the tokens that were written")
    if choices and (logprobs or stops):
        field = "logprobs" if logprobs else "stop"
        raise _invalid(field, "goes with free answers; choices have scores of their own")
    options = _options(request, limits)
    check_options(options, len(choices), limits)
    return Chat(
        question=question,
        sounds=tuple(sounds),
        options=options,
        stops=stops,
        choices=choices,
        stream=bool(request.stream),
        with_usage=bool(request.stream_options and request.stream_options.include_usage),
        with_logprobs=logprobs,
    )


def _options(request: ChatRequest, limits: Limits) -> GenerationOptions:
    longest = min(GenerationOptions.max_new_tokens, limits.new_tokens)
    for given in (request.max_tokens, request.max_completion_tokens):
        if given is not None:
            longest = given
    stated: dict[str, Any] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "seed": request.seed,
    }
    try:
        return GenerationOptions(
            max_new_tokens=longest, **{key: value for key, value in stated.items() if value is not None}
        )
    except (QuestionError, OverflowError) as error:
        raise RequestFault(Fault.INVALID, str(error)) from error


def _choices(request: ChatRequest) -> tuple[str, ...]:
    if request.choices is None:
        if request.none_of_these:
            raise _invalid("none_of_these", "goes with choices; give them too")
        return ()
    if any(len(label) > _LONGEST_LABEL for label in request.choices):
        raise RequestFault(
            Fault.TOO_LARGE, f"choices: a label has at most {_LONGEST_LABEL} characters", param="choices"
        )
    try:
        return check_choices(request.choices, bool(request.none_of_these))
    except QuestionError as error:
        raise _invalid("choices", str(error)) from error


def _stops(given: str | list[str] | None) -> tuple[str, ...]:
    stops = (given,) if isinstance(given, str) else tuple(given or ())
    if len(stops) > _MOST_STOPS or not all(0 < len(stop) <= _LONGEST_STOP for stop in stops):
        raise _invalid("stop", f"up to {_MOST_STOPS} texts, of 1 to {_LONGEST_STOP} characters each")
    return stops


def _question(messages: Sequence[ChatMessage], limits: Limits) -> tuple[str, list[Sound]]:
    """The text with its audio places, and the clips in their order."""
    parts = [_parts(message, f"messages[{i}]") for i, message in enumerate(messages)]
    texts = [part for own in parts for part in own if isinstance(part, str)]
    sounds = [part for own in parts for part in own if isinstance(part, Sound)]
    size = sum(map(len, texts))
    if size > limits.question_chars:
        raise RequestFault(
            Fault.TOO_LARGE,
            f"the question has {size} characters; at most {limits.question_chars}",
            param="messages",
        )
    if len(sounds) > limits.audios:
        raise RequestFault(
            Fault.TOO_LARGE,
            f"{len(sounds)} clips for one question; at most {limits.audios}",
            param="messages",
        )
    if not any(text.strip() for text in texts):
        raise _invalid("messages", "the question is empty; ask something")
    markers = sum(text.count(AUDIO_TOKEN) for text in texts)
    if markers not in (0, len(sounds)):
        raise _invalid(
            "messages",
            f"the text has {markers} {AUDIO_TOKEN} for {len(sounds)} clips; give one for each or none",
        )
    joined = [_joined(own, marked=markers > 0) for own in parts]
    question = "\n".join(text for text in joined if text)
    # Where they come first anyway it is the very question that `NatureLM.ask` would ask, down to its seed.
    first = f"{AUDIO_MARKER} " * len(sounds)
    if question.startswith(first) and question.count(AUDIO_TOKEN) == len(sounds):
        question = question[len(first) :]
    return question, sounds


def _parts(message: ChatMessage, place: str) -> list[str | Sound]:
    if message.role not in _ROLES:
        raise _invalid(
            f"{place}.role",
            f"messages of {message.role[:40]!r} are not taken: this model answers one question at a time, so send "
            f"{', '.join(_ROLES)} alone",
        )
    if message.content is None:
        raise _invalid(f"{place}.content", "is missing")
    if isinstance(message.content, str):
        return [message.content]
    return [_part(part, message.role, f"{place}.content[{i}]") for i, part in enumerate(message.content)]


def _part(part: ContentPart, role: str, place: str) -> str | Sound:
    if part.type == "text":
        if part.text is None:
            raise _invalid(f"{place}.text", "is missing")
        return part.text
    if part.type != "input_audio":
        raise _invalid(f"{place}.type", f"{part.type[:40]!r} is not taken; text and input_audio are")
    if part.input_audio is None:
        raise _invalid(f"{place}.input_audio", "is missing")
    if role != "user":
        raise _invalid(place, "input_audio goes into messages of the user")
    if part.input_audio.format not in CONTAINERS:
        raise _invalid(
            f"{place}.input_audio.format",
            f"{part.input_audio.format[:40]!r} is not read; one of {', '.join(CONTAINERS)} is",
        )
    return Sound(part.input_audio.data, part.input_audio.format, f"{place}.input_audio")


def _joined(parts: Sequence[str | Sound], *, marked: bool) -> str:
    """The text of one message. marked: whether the texts say themselves where the clips are.

    Clips stand where they are among the texts. Those after all text come before it, as the model was trained and as
    `NatureLM.ask` puts them: many clients send the text first and do not mean anything by it.
    """
    if marked:
        return "\n".join(part for part in parts if isinstance(part, str))
    kinds = [isinstance(part, Sound) for part in parts]
    if kinds == sorted(kinds):
        parts = [
            *(part for part in parts if isinstance(part, Sound)),
            *(p for p in parts if isinstance(p, str)),
        ]
    text, after_text = "", False
    for part in parts:
        is_text = isinstance(part, str)
        between = "" if not text else "\n" if is_text and after_text else " "
        text += between + (part if isinstance(part, str) else AUDIO_MARKER)
        after_text = is_text
    return text


def _invalid(place: str, why: str) -> RequestFault:
    return RequestFault(Fault.INVALID, f"{place}: {why}", param=place)
