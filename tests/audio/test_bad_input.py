"""Whatever a user can get wrong is one AudioError of one line that names the input."""

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from naturelm.audio import AudioSource, WindowSpec, audio_info, iter_blocks, iter_windows, read_audio
from naturelm.errors import AudioError

RATE = 16_000


def noise(seconds: float, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * RATE), channels))


def encoded(container: str, seconds: float = 10.0, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    sf.write(file, noise(seconds), RATE, format=container, subtype=subtype)
    return file.getvalue()


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(AudioError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert "\r" not in text
    return text


def refuse(source: AudioSource, name: str, *words: str) -> None:
    """read_audio, iter_blocks and iter_windows all raise, and name the source and the words."""
    for call in (
        lambda: read_audio(source),
        lambda: list(iter_blocks(source)),
        lambda: list(iter_windows(source, WindowSpec(1.0))),
    ):
        text = message_of(call)
        assert text.startswith(name)
        for word in words:
            assert word in text


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "gone.wav"
    refuse(path, str(path), "no such file")
    assert "no such file" in message_of(lambda: audio_info(str(path)))
    assert "no such file" in message_of(lambda: audio_info(""))


def test_directory(tmp_path: Path) -> None:
    refuse(tmp_path, str(tmp_path), "directory")


def test_long_and_impossible_names(tmp_path: Path) -> None:
    refuse(tmp_path / ("x" * 300), str(tmp_path), "cannot be opened")
    refuse("nul\0.wav", "nul", "cannot be opened")
    refuse("two\nlines.wav", "two lines.wav", "no such file")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(encoded("WAV", 1.0))
    path.chmod(0)
    refuse(path, str(path), "permission")


def test_permission_error_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(encoded("WAV", 1.0))

    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbid)
    refuse(path, str(path), "permission")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system here")
def test_pipes_and_sockets_are_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    refuse(pipe, str(pipe), "regular file")
    refuse("/dev/null", "/dev/null", "regular file")
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.bind(str(tmp_path / "s"))
        except OSError:
            return  # the temporary path is too long for a socket
        refuse(tmp_path / "s", str(tmp_path / "s"), "regular file")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "raw"])
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"empty.{suffix}"
    path.write_bytes(b"")
    refuse(path, str(path), "empty", "0 bytes")
    refuse(b"", "<bytes>", "empty")
    refuse(io.BytesIO(), "<file object>", "empty")


def test_header_without_samples(tmp_path: Path) -> None:
    path = tmp_path / "header.wav"
    sf.write(path, np.zeros(0), RATE)
    assert path.stat().st_size == 44
    refuse(path, str(path), "no samples")
    path.write_bytes(encoded("WAV", 10.0)[:44])
    refuse(path, str(path), "no samples")


def test_wav_that_was_never_closed() -> None:
    data = bytearray(encoded("WAV", 2.0))
    data[40:44] = bytes(4)
    refuse(bytes(data), "<bytes>", "no samples", "never completed")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "raw", "vox", "gsm"])
def test_text_under_a_sound_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"notes.{suffix}"
    path.write_text("Größe: a kingfisher at the weir, 06:40\n" * 200, encoding="utf-8")
    refuse(path, str(path), "text")


def test_noise_under_a_sound_name(tmp_path: Path) -> None:
    path = tmp_path / "rubbish.wav"
    path.write_bytes(np.random.default_rng(0).bytes(5_000))
    refuse(path, str(path), "not in a sound format", "ffmpeg")


@pytest.mark.parametrize("suffix", ["m4a", "mp4", "wav"])
def test_unsupported_container_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"my call.{suffix}"
    path.write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(4_000))
    refuse(path, str(path), "MP4", "WAV or FLAC", f"ffmpeg -i '{path}'")


def test_header_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "stub.wav"
    path.write_bytes(encoded("WAV", 1.0)[:30])
    refuse(path, str(path), "header")


@pytest.mark.parametrize(
    ("suffix", "container"),
    [("flac", "FLAC"), ("wav", "WAV"), ("aiff", "AIFF"), ("rf64", "RF64"), ("w64", "W64"), ("mp3", "MP3")],
)
def test_truncated_file_says_where_and_keeps_what_came_before(
    tmp_path: Path, suffix: str, container: str
) -> None:
    path = tmp_path / f"cut.{suffix}"
    data = encoded(container)
    path.write_bytes(data[: len(data) // 2])
    refuse(path, str(path), "truncated", "its header says 10.0 s")
    windows = []
    with pytest.raises(AudioError, match="truncated"):
        for window in iter_windows(path, WindowSpec(1.0), block_seconds=1.0):
            windows.append(window)
    assert 3 <= len(windows) <= 5
    assert all(window.num_samples == RATE for window in windows)
    assert len(read_audio(path, start=1.0, end=3.0)) == 2 * RATE


def test_truncated_flac_gives_the_right_time(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    data = encoded("FLAC")
    path.write_bytes(data[: int(len(data) * 0.9)])
    text = message_of(lambda: read_audio(path))
    seconds = float(text.split(" after ")[1].split(" s")[0])
    assert 8.0 <= seconds <= 9.1
    assert "truncated" in message_of(lambda: read_audio(path, start=9.5))


def test_streamed_flac_that_was_cut() -> None:
    data = bytearray(encoded("FLAC"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    text = message_of(lambda: read_audio(bytes(data[: len(data) // 2])))
    assert "truncated" in text
    assert "header says" not in text
    assert "truncated" in message_of(lambda: audio_info(bytes(data[: len(data) // 2])))
    assert "end is 11 s" in message_of(lambda: read_audio(bytes(data), end=11.0))
    assert "start is 11 s" in message_of(lambda: read_audio(bytes(data), start=11.0))


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", None), ("OGG", "VORBIS")])
def test_damage_in_the_middle(container: str, subtype: str | None) -> None:
    data = bytearray(encoded(container, subtype=subtype))
    middle = len(data) // 2
    data[middle : middle + 3_000] = np.random.default_rng(1).bytes(3_000)
    refuse(bytes(data), "<bytes>", "truncated or damaged")


def test_mp3_that_goes_on_after_its_stated_length() -> None:
    data = encoded("MP3")
    refuse(data + data, "<bytes>", "goes on after", "-c copy")


def test_mp3_of_varying_bit_rate_that_states_no_length() -> None:
    file = io.BytesIO()
    ramp = np.linspace(0, 1, 20 * RATE)[:, None]
    sf.write(file, noise(20.0) * ramp, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.3)
    data = file.getvalue()
    data = data[data.index(data[:2], 4) :]
    refuse(data, "<bytes>", "goes on after", "-c copy")
    assert "goes on after" in message_of(lambda: audio_info(data))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_nan_and_infinity_are_named_with_their_time(tmp_path: Path, bad: float, rate: int) -> None:
    sound = np.zeros(4 * rate)
    sound[3 * rate : 3 * rate + 10] = bad
    path = tmp_path / "holes.wav"
    sf.write(path, sound, rate, subtype="FLOAT")
    refuse(path, str(path), "3.0000 s")
    text = message_of(lambda: read_audio(sound, source_rate=rate))
    assert text.startswith("<array>")
    assert "3.0000 s" in text
    assert len(read_audio(path, end=3.0)) == 3 * RATE


def test_nan_in_a_channel_that_is_not_read(tmp_path: Path) -> None:
    sound = np.zeros((2, 1_000))
    sound[1] = np.nan
    assert not read_audio(sound, channel=0).any()
    assert "NaN" in message_of(lambda: read_audio(sound))


@pytest.mark.parametrize("channel", [2, 7, -1, 0.5])
def test_channel_out_of_range(tmp_path: Path, channel: int) -> None:
    path = tmp_path / "stereo.wav"
    sf.write(path, noise(0.1, 2), RATE)
    text = message_of(lambda: read_audio(path, channel=channel))
    assert text.startswith(str(path))
    assert "channel" in text


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (-0.5, None),
        (2.0, None),
        (9.0, None),
        (0.0, 2.1),
        (0.0, 0.0),
        (1.0, 0.5),
        (1.0, 1.0),
        (float("nan"), None),
        (0.0, float("nan")),
        (float("inf"), None),
        (0.0, float("inf")),
        (0.0, -1.0),
    ],
)
def test_part_out_of_range(tmp_path: Path, start: float, end: float | None) -> None:
    path = tmp_path / "two_seconds.wav"
    sf.write(path, noise(2.0), RATE)
    for call in (
        lambda: read_audio(path, start=start, end=end),
        lambda: list(iter_blocks(path, start=start, end=end)),
        lambda: list(iter_windows(path, WindowSpec(1.0), start=start, end=end)),
        lambda: list(iter_windows(path, start=start, end=end)),
    ):
        text = message_of(call)
        assert text.startswith(str(path))
        assert "start" in text or "end" in text


@pytest.mark.parametrize("rate", [1, 2_000, 3_999, 384_001, 1_000_000])
def test_sample_rates_that_are_not_supported(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "odd.wav"
    sf.write(path, np.zeros(100), rate)
    refuse(path, str(path), f"{rate} Hz", "4000 to 384000")
    assert f"{rate} Hz" in message_of(lambda: read_audio(np.zeros(10), source_rate=rate))
    sf.write(path, np.zeros(100), RATE)
    assert f"{rate} Hz" in message_of(lambda: read_audio(path, sample_rate=rate))


def test_recording_shorter_than_one_sample() -> None:
    assert "too short" in message_of(lambda: read_audio(np.zeros(1), source_rate=384_000))


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros(0), "no samples"),
        (np.zeros((2, 0)), "no samples"),
        (np.zeros((16_000, 2)), "array.T"),
        (np.zeros((100, 1)), "array.T"),
        (np.float32(0.0) * np.zeros(()), "dimensions"),
        (np.zeros((1, 2, 3)), "dimensions"),
        (np.zeros(10, dtype=np.int64), "int64"),
        (np.zeros(10, dtype=np.complex64), "complex64"),
        (np.zeros(10, dtype=bool), "bool"),
        (np.array(["a"]), "sample format"),
    ],
)
def test_arrays_that_cannot_be_sound(array: np.ndarray, word: str) -> None:
    refuse(np.asarray(array), "<array>", word)


def test_source_rate_is_for_arrays_only(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    sf.write(path, noise(0.1), RATE)
    assert "source_rate" in message_of(lambda: read_audio(path, source_rate=RATE))
    assert "source_rate" in message_of(lambda: read_audio(np.zeros(10), source_rate=1.5))  # type: ignore[arg-type]


def test_file_objects_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(encoded("WAV", 1.0))
    with path.open(encoding="latin-1") as text:
        refuse(text, str(path), "mode 'rb'")  # type: ignore[arg-type]
    with path.open("rb") as file:
        pass
    refuse(file, str(path), "cannot be read")
    with (tmp_path / "new.wav").open("wb") as target:
        target.write(b"RIFF")
        refuse(target, str(tmp_path / "new.wav"), "cannot be read")


def test_other_objects_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="audio source"):
        read_audio([0.0, 0.1])  # type: ignore[arg-type]
