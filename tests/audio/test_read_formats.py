"""Every format, sample rate and channel layout gives the sound that was written."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.audio import SAMPLE_RATE, audio_info, iter_blocks, read_audio


def tone(rate: int, seconds: float = 1.0, frequency: float = 440.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


FORMATS = [
    ("wav", "WAV", "PCM_U8", 0.01),
    ("wav", "WAV", "PCM_16", 1e-4),
    ("wav", "WAV", "PCM_24", 1e-6),
    ("wav", "WAV", "PCM_32", 1e-6),
    ("wav", "WAV", "FLOAT", 1e-6),
    ("wav", "WAV", "DOUBLE", 1e-6),
    ("wav", "WAV", "ULAW", 0.03),
    ("wav", "WAV", "IMA_ADPCM", 0.05),
    ("wav", "WAV", "GSM610", 0.2),
    ("wav", "WAVEX", "PCM_16", 1e-4),
    ("flac", "FLAC", "PCM_S8", 0.01),
    ("flac", "FLAC", "PCM_16", 1e-4),
    ("flac", "FLAC", "PCM_24", 1e-6),
    ("ogg", "OGG", "VORBIS", 0.05),
    ("opus", "OGG", "OPUS", 0.1),
    ("mp3", "MP3", "MPEG_LAYER_III", 0.05),
    ("aiff", "AIFF", "PCM_16", 1e-4),
    ("aiff", "AIFF", "PCM_24", 1e-6),
    ("rf64", "RF64", "PCM_16", 1e-4),
    ("w64", "W64", "PCM_24", 1e-6),
]


@pytest.mark.parametrize(("suffix", "container", "subtype", "tolerance"), FORMATS)
def test_formats_give_back_the_tone(
    tmp_path: Path, suffix: str, container: str, subtype: str, tolerance: float
) -> None:
    path = tmp_path / f"tone.{suffix}"
    sound = tone(SAMPLE_RATE, 2.0)
    sf.write(path, sound, SAMPLE_RATE, format=container, subtype=subtype)
    samples = read_audio(path)
    info = audio_info(path)
    assert samples.dtype == np.float32
    assert samples.shape == (info.frames,)
    assert abs(len(samples) - len(sound)) < 1200  # codecs with frames fill up the last one
    middle = slice(2_000, 30_000)  # clear of the edges of lossy codecs
    assert np.abs(samples[middle] - sound[middle]).max() < tolerance
    assert (info.format, info.subtype) == (container, subtype)
    assert (info.name, info.sample_rate, info.channels) == (str(path), SAMPLE_RATE, 1)
    assert info.duration == pytest.approx(2.0, abs=0.08)


@pytest.mark.parametrize(
    "rate", [4_000, 8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000, 250_000, 384_000]
)
def test_sample_rates_keep_pitch_and_level(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "tone.wav"
    sf.write(path, tone(rate, 1.0), rate, subtype="FLOAT")
    samples = read_audio(path)
    assert len(samples) == SAMPLE_RATE
    assert audio_info(path).sample_rate == rate
    expected = tone(SAMPLE_RATE, 1.0)
    assert np.abs(samples[1000:-1000] - expected[1000:-1000]).max() < 2e-3


def test_ultrasound_does_not_alias(tmp_path: Path) -> None:
    path = tmp_path / "bat.wav"
    sf.write(path, tone(384_000, 0.5, frequency=45_000), 384_000)
    assert np.abs(read_audio(path)[1000:-1000]).max() < 1e-3


def test_equal_rates_are_not_filtered(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, 5_000).astype(np.float32)
    path = tmp_path / "noise.wav"
    sf.write(path, sound, 22_050, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(path, sample_rate=22_050), sound)


@given(rate=st.integers(4_000, 384_000), target=st.integers(4_000, 384_000), frames=st.integers(1, 20_000))
@settings(max_examples=60, deadline=None)
def test_length_follows_the_documented_rule(rate: int, target: int, frames: int) -> None:
    expected = (2 * frames * target + rate) // (2 * rate)
    if expected:
        sound = np.zeros(frames, dtype=np.float32)
        assert len(read_audio(sound, sample_rate=target, source_rate=rate)) == expected


def test_channels_are_averaged_or_chosen(tmp_path: Path) -> None:
    channels = np.stack([tone(SAMPLE_RATE, 1.0, f) for f in (300, 500, 700, 900, 1100)])
    path = tmp_path / "five.wav"
    sf.write(path, channels.T, SAMPLE_RATE, subtype="FLOAT")
    assert audio_info(path).channels == 5
    np.testing.assert_allclose(read_audio(path), channels.mean(axis=0), atol=1e-6)
    for index, expected in enumerate(channels):
        np.testing.assert_allclose(read_audio(path, channel=index), expected, atol=1e-6)
    np.testing.assert_allclose(read_audio(channels, channel=3), channels[3], atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "aiff", "w64"])
def test_a_part_is_the_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"noise.{suffix}"
    sound = 0.3 * np.random.default_rng(1).standard_normal(10 * SAMPLE_RATE)
    container = {"opus": "OGG"}.get(suffix, suffix.upper())
    sf.write(path, sound, SAMPLE_RATE, format=container, subtype="OPUS" if suffix == "opus" else None)
    whole = read_audio(path)
    np.testing.assert_array_equal(read_audio(path, start=3.25, end=8.0), whole[52_000:128_000])
    np.testing.assert_array_equal(read_audio(path, start=7.5), whole[120_000:])
    np.testing.assert_array_equal(read_audio(path, end=audio_info(path).duration), whole)


def test_part_of_a_resampled_recording_has_its_length(tmp_path: Path) -> None:
    path = tmp_path / "tone.flac"
    sf.write(path, tone(44_100, 10.0), 44_100)
    part = read_audio(path, start=2.0, end=5.0)
    assert len(part) == 48_000
    np.testing.assert_allclose(part[500:-500], tone(SAMPLE_RATE, 10.0)[32_500:79_500], atol=2e-3)


def test_mp3_in_small_blocks_is_as_good_as_whole(tmp_path: Path) -> None:
    # soundfile's own block reading loses the bit reservoir: errors of 0.2 in this sound.
    ramp = np.linspace(0, 0.1, 20 * SAMPLE_RATE)
    sound = tone(SAMPLE_RATE, 20.0, level=0.3) + ramp * np.random.default_rng(2).standard_normal(len(ramp))
    path = tmp_path / "vbr.mp3"
    sf.write(path, sound, SAMPLE_RATE, bitrate_mode="VARIABLE", compression_level=0.5)
    whole, _ = sf.read(path, dtype="float32")
    joined = np.concatenate(list(iter_blocks(path, block_seconds=0.05)))
    assert len(joined) == len(whole)
    assert np.abs(joined - whole.clip(-1, 1)).max() < 1e-5


@given(
    frames=st.integers(1, 60_000),
    rate=st.sampled_from([4_000, 8_000, 16_000, 22_050, 44_100, 48_000, 96_000, 7_919]),
    channels=st.integers(1, 3),
    block_seconds=st.floats(1e-3, 4.0),
    choose=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_blocks_joined_equal_read_audio(
    frames: int, rate: int, channels: int, block_seconds: float, choose: bool, seed: int
) -> None:
    sound = np.random.default_rng(seed).uniform(-1, 1, (frames, channels))
    file = io.BytesIO()
    sf.write(file, sound, rate, format="WAV", subtype="PCM_16")
    channel = channels - 1 if choose else None
    if (2 * frames * SAMPLE_RATE + rate) // (2 * rate) == 0:
        return
    whole = read_audio(file, channel=channel)
    blocks = list(iter_blocks(file, channel=channel, block_seconds=block_seconds))
    size = max(1, round(block_seconds * SAMPLE_RATE))
    assert all(len(block) == size for block in blocks[:-1])
    assert 1 <= len(blocks[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)])
def test_blocks_of_compressed_files_equal_read_audio(container: str, subtype: str | None) -> None:
    file = io.BytesIO()
    sf.write(
        file, np.random.default_rng(3).uniform(-1, 1, (200_000, 2)), 44_100, format=container, subtype=subtype
    )
    whole = read_audio(file, start=1.0)
    for block_seconds in (0.01, 0.7, 30.0):
        blocks = list(iter_blocks(file, start=1.0, block_seconds=block_seconds))
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("block_seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_block_lengths_are_refused(block_seconds: float) -> None:
    with pytest.raises(ValueError, match="block_seconds"):
        list(iter_blocks(np.zeros(10), block_seconds=block_seconds))


def test_bytes_path_and_file_object_agree(tmp_path: Path) -> None:
    path = tmp_path / "tone.flac"
    sf.write(path, tone(SAMPLE_RATE, 1.0), SAMPLE_RATE)
    expected = read_audio(path)
    np.testing.assert_array_equal(read_audio(str(path)), expected)
    np.testing.assert_array_equal(read_audio(path.read_bytes()), expected)
    with path.open("rb") as file:
        file.seek(100)
        np.testing.assert_array_equal(read_audio(file), expected)
        assert not file.closed
        assert audio_info(file).name == str(path)
        assert next(iter_blocks(file, block_seconds=0.5)).shape == (8_000,)
        assert not file.closed
    assert audio_info(path.read_bytes()).name == "<bytes>"
    assert audio_info(io.BytesIO(path.read_bytes())).name == "<file object>"


def test_a_pipe_given_as_file_object_is_read(tmp_path: Path) -> None:
    path = tmp_path / "short.flac"
    sf.write(path, np.zeros(2_000), SAMPLE_RATE)
    data = path.read_bytes()
    assert len(data) < 60_000  # fits a pipe's buffer
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as sink:
        sink.write(data)
    with os.fdopen(reader, "rb") as file:
        assert len(read_audio(file)) == 2_000


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.int8, [-128, 0, 64], [-1.0, 0.0, 0.5]),
        (np.uint8, [0, 128, 192], [-1.0, 0.0, 0.5]),
        (np.int16, [-(2**15), 0, 2**14], [-1.0, 0.0, 0.5]),
        (np.uint16, [0, 2**15, 3 * 2**14], [-1.0, 0.0, 0.5]),
        (np.int32, [-(2**31), 0, 2**30], [-1.0, 0.0, 0.5]),
        (np.float16, [-1.0, 0.0, 0.5], [-1.0, 0.0, 0.5]),
        (np.float64, [-3.0, 0.0, 0.5], [-1.0, 0.0, 0.5]),
        (np.float32, [-1.5, 0.0, 1.5], [-1.0, 0.0, 1.0]),
    ],
)
def test_arrays_are_scaled_by_their_type(dtype: type, values: list[float], expected: list[float]) -> None:
    array = np.array(values, dtype=dtype)
    np.testing.assert_array_equal(read_audio(array), np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(read_audio(np.stack([array, array])), np.array(expected, dtype=np.float32))


def test_arrays_are_resampled_from_their_rate() -> None:
    array = tone(48_000, 1.0)
    info = audio_info(array, source_rate=48_000)
    assert (info.name, info.frames, info.duration) == ("<array>", 48_000, 1.0)
    np.testing.assert_allclose(
        read_audio(array, source_rate=48_000)[500:-500], tone(16_000)[500:-500], atol=2e-3
    )
    assert len(read_audio(array)) == 48_000  # no source_rate: already at sample_rate


def test_result_does_not_share_memory_with_the_array() -> None:
    array = np.zeros(100, dtype=np.float32)
    read_audio(array)[:] = 1.0
    assert not array.any()


def test_loud_float_files_are_clipped(tmp_path: Path) -> None:
    for rate in (SAMPLE_RATE, 44_100):
        path = tmp_path / f"{rate}.wav"
        sf.write(path, tone(rate, 0.5, level=4.0), rate, subtype="FLOAT")
        samples = read_audio(path)
        assert samples.max() == 1.0
        assert samples.min() == -1.0


def test_silence_is_not_an_error(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    sf.write(path, np.zeros(1_000), SAMPLE_RATE)
    assert not read_audio(path).any()


def flac_without_length(sound: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    sf.write(file, sound, rate, format="FLAC")
    data = bytearray(file.getvalue())
    data[21] &= 0xF0  # STREAMINFO's 36 bits of total samples
    data[22:26] = bytes(4)
    return bytes(data)


def test_streamed_flac_without_length_is_read() -> None:
    data = flac_without_length(tone(22_050, 3.0), 22_050)
    assert audio_info(data).frames == 66_150
    assert len(read_audio(data)) == 48_000
    assert len(read_audio(data, start=1.0, end=2.0)) == 16_000


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF])
def test_streamed_wav_with_a_made_up_length_is_read(size: int) -> None:
    file = io.BytesIO()
    sf.write(file, tone(SAMPLE_RATE, 2.0), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    data = bytearray(file.getvalue())
    data[40:44] = size.to_bytes(4, "little")
    assert audio_info(bytes(data)).duration == 2.0
    assert len(read_audio(bytes(data))) == 32_000


def mp3_without_length(seconds: float) -> bytes:
    file = io.BytesIO()
    sf.write(
        file, tone(44_100, seconds), 44_100, format="MP3", bitrate_mode="CONSTANT", compression_level=0.6
    )
    data = file.getvalue()
    return data[data.index(data[:3], 4) :]  # the first frame is the one that states the length


@pytest.mark.parametrize("stated", [True, False])
def test_intact_mp3_with_tags_is_not_called_truncated(stated: bool) -> None:
    data = mp3_without_length(20.0)
    if stated:
        file = io.BytesIO()
        sf.write(file, tone(44_100, 20.0), 44_100, format="MP3")
        data = file.getvalue()
    picture = b"APIC" + (90_000).to_bytes(4, "big") + bytes(90_002)  # libsndfile takes it for sound
    size = bytes(
        [len(picture) >> 21 & 127, len(picture) >> 14 & 127, len(picture) >> 7 & 127, len(picture) & 127]
    )
    tagged = b"ID3\x03\0\0" + size + picture + data + b"TAG" + bytes(125)
    assert len(read_audio(tagged)) == pytest.approx(20 * SAMPLE_RATE, abs=2_000)
    assert audio_info(tagged).duration == pytest.approx(20.0, abs=0.1)
