"""What a request sends as sound, decoded under limits that hold before the work is done.

Nothing that was sent is believed: a file of a megabyte can hold ten hours, a header can claim a thousand channels.
Decoding stops at the first sample too many, and never holds more than a clip.
"""

import asyncio
import base64
import binascii
import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from naturelm.answer.clips import checked_clip
from naturelm.answer.results import Clip
from naturelm.audio.decode import SampleStream
from naturelm.audio.sources import Recording, open_recording
from naturelm.errors import AudioError
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.fetch import FetchOptions, UrlFetcher
from naturelm.serve.folders import AllowedFolders
from naturelm.serve.options import Access, Limits

Result = TypeVar("Result")

CONTAINERS = {
    "wav": ("WAV", "WAVEX", "RF64"),
    "mp3": ("MP3",),
    "flac": ("FLAC",),
    "ogg": ("OGG",),
}
"""What may be asked to be inside, in libsndfile's words."""
_MOST_CHANNELS = 64
# Samples of all channels together that one clip may take to decode: 87 s of 384 kHz in stereo, some seconds' work.
_MOST_VALUES = 2**26
_FETCHES = 4


class SoundReader:
    """Reads clips at one sample rate, a few at a time, in threads of its own."""

    def __init__(
        self,
        sample_rate: int,
        longest_clip: float,
        limits: Limits,
        access: Access,
        *,
        fetch: Callable[[str, str], bytes] | None = None,
        decoders: int = 2,
    ) -> None:
        """sample_rate: Hz of the clips. longest_clip: s. fetch: gets (url, name), see `UrlFetcher`, which it is by
        default. decoders: clips decoded at the same time."""
        self._sample_rate = sample_rate
        self._longest = longest_clip
        self._most_bytes = limits.body_bytes
        self._folders = AllowedFolders(access.folders, limits.body_bytes)
        self._fetch = fetch or UrlFetcher(access.url_hosts, FetchOptions(limits.body_bytes))
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="naturelm-decoder")
        # Apart, so that a slow host keeps nobody else waiting.
        self._fetchers = ThreadPoolExecutor(_FETCHES, thread_name_prefix="naturelm-fetcher")

    async def from_base64(
        self, data: str, name: str, *, formats: tuple[str, ...] | None = None, source_rate: int | None = None
    ) -> Clip:
        """A clip from a whole file in base64.

        name: of the sound, for messages. formats: of `CONTAINERS`, one of which it must be. source_rate: Hz that its
        header must state. Raises RequestFault.
        """

        def read() -> Clip:
            return self._clip(self._decoded(data, name), name, formats, source_rate)

        return await _in_thread(self._decoders, read)

    async def from_file(self, path: str, name: str, source_rate: int | None = None) -> Clip:
        """A clip from a file in one of the allowed folders. Raises RequestFault."""

        def read() -> Clip:
            return self._clip(self._folders.read(path, name), name, None, source_rate)

        return await _in_thread(self._decoders, read)

    async def from_url(self, url: str, name: str, source_rate: int | None = None) -> Clip:
        """A clip from an allowed host. Raises RequestFault."""

        def read() -> Clip:
            content = self._fetch(url, name)
            # Waited for here, so that no more files than fetchers are ever held.
            return self._decoders.submit(self._clip, content, name, None, source_rate).result()

        return await _in_thread(self._fetchers, read)

    def close(self) -> None:
        """Begin nothing any more; what has begun comes to its end."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._fetchers.shutdown(wait=False, cancel_futures=True)

    # --- in a thread ---

    def _decoded(self, data: str, name: str) -> bytes:
        if data[:5].lower() == "data:":
            raise RequestFault(
                Fault.BAD_AUDIO, f"{name}: is a data: URL; send what comes after 'base64,' in it alone"
            )
        if len(data) > (self._most_bytes + 2) // 3 * 4:
            raise RequestFault(Fault.TOO_LARGE, f"{name}: is larger than {self._most_bytes} bytes")
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise RequestFault(
                Fault.BAD_AUDIO,
                f"{name}: is not proper base64; encode the file as a whole, with + and /, padded, without line breaks",
            ) from None

    def _clip(
        self, content: bytes, name: str, formats: tuple[str, ...] | None, source_rate: int | None
    ) -> Clip:
        file = _Named(content, name)
        try:
            with open_recording(file, self._sample_rate) as recording:
                seconds = self._checked(recording, name, formats, source_rate)
                samples = self._read(recording, name, seconds)
            return checked_clip(samples, name, 0.0, self._sample_rate)
        except AudioError as error:
            raise RequestFault(Fault.BAD_AUDIO, str(error)) from error

    def _checked(
        self, recording: Recording, name: str, formats: tuple[str, ...] | None, source_rate: int | None
    ) -> float:
        """The seconds that may be decoded of it, by what its header says. Raises RequestFault."""
        if formats is not None and not any(recording.format in CONTAINERS[kind] for kind in formats):
            raise RequestFault(
                Fault.BAD_AUDIO,
                f"{name}: is said to be {' or '.join(formats)} and is {recording.format}; say what it is, or convert it",
            )
        if source_rate is not None and source_rate != recording.sample_rate:
            raise RequestFault(
                Fault.BAD_AUDIO,
                f"{name}: sample_rate is {source_rate} Hz and the file's header says {recording.sample_rate} Hz; "
                "give the file's, or leave sample_rate out",
            )
        if recording.channels > _MOST_CHANNELS:
            raise RequestFault(
                Fault.BAD_AUDIO,
                f"{name}: has {recording.channels} channels; at most {_MOST_CHANNELS} are read",
            )
        seconds = min(self._longest, _MOST_VALUES / (recording.channels * recording.sample_rate))
        if recording.frames is not None and recording.frames / recording.sample_rate > seconds:
            raise self._too_long(recording, name, seconds)
        return seconds

    def _read(self, recording: Recording, name: str, seconds: float) -> np.ndarray:
        most = math.floor(seconds * self._sample_rate + 0.5)
        pieces, count = [], 0
        for piece in SampleStream(recording, self._sample_rate, None, (0, None)).pieces():
            pieces.append(piece)
            count += len(piece)
            if count > most:
                raise self._too_long(recording, name, seconds)
        return np.concatenate(pieces)

    def _too_long(self, recording: Recording, name: str, seconds: float) -> RequestFault:
        form = ""
        if seconds < self._longest:
            form = f" of {recording.channels} channels at {recording.sample_rate} Hz"
        return RequestFault(Fault.TOO_LARGE, f"{name}: is longer than the {seconds:g} s{form} that are taken")


class _Named(io.BytesIO):
    """A file in memory that messages call by a name."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


async def _in_thread(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(pool, work)
