"""What requests send as sound: read like `ask` reads it, under limits, and nothing outside the allowed folders."""

import asyncio
import base64
import io
import os
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import base64_of, wav

from naturelm.answer.results import Clip
from naturelm.audio import read_audio
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import Access, Limits
from naturelm.serve.sound import SoundReader

RECORDINGS = sorted((Path(__file__).parents[2] / "examples" / "recordings").glob("*.flac"))


def reader(longest: float = 10.0, limits: Limits | None = None, **access: Any) -> SoundReader:
    return SoundReader(16_000, longest, limits or Limits(), Access(**access))


def clip_of(data: bytes | str, longest: float = 10.0, limits: Limits | None = None, **kwargs: Any) -> Clip:
    text = data if isinstance(data, str) else base64_of(data)
    return asyncio.run(reader(longest, limits).from_base64(text, "audio 1", **kwargs))


def fault_of(work: Coroutine[Any, Any, Clip]) -> RequestFault:
    with pytest.raises(RequestFault) as caught:
        asyncio.run(work)
    return caught.value


def fault(
    data: bytes | str, longest: float = 10.0, limits: Limits | None = None, **kwargs: Any
) -> RequestFault:
    text = data if isinstance(data, str) else base64_of(data)
    found = fault_of(reader(longest, limits).from_base64(text, "audio 1", **kwargs))
    assert str(found).startswith("audio 1: ") and "<" not in str(found)
    return found


def encoded(samples: np.ndarray, rate: int = 16_000, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **kwargs})
    return file.getvalue()


def without_length(flac: bytes) -> bytes:
    """The file as a stream would have it: the number of samples is not stated."""
    assert flac[:4] == b"fLaC"
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


class TestSound:
    @pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
    def test_it_is_what_ask_hears(self, path: Path) -> None:
        clip = clip_of(path.read_bytes(), formats=("flac",))
        expected = read_audio(path)
        assert np.array_equal(clip.samples, expected)
        assert (clip.recording, clip.start) == ("audio 1", 0.0)
        assert clip.end == len(expected) / 16_000

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("wav", {"format": "WAV"}),
            ("wav", {"format": "WAV", "subtype": "FLOAT"}),
            ("wav", {"format": "WAVEX"}),
            ("wav", {"format": "RF64"}),
            ("mp3", {"format": "MP3"}),
            ("flac", {"format": "FLAC"}),
            ("ogg", {"format": "OGG", "subtype": "VORBIS"}),
            ("ogg", {"format": "OGG", "subtype": "OPUS"}),
        ],
    )
    def test_containers(self, kind: str, options: dict[str, str]) -> None:
        data = wav(1.0, rate=48_000, **options)
        clip = clip_of(data, formats=(kind,), source_rate=48_000)
        assert np.array_equal(clip.samples, read_audio(data))
        others = tuple({"wav", "mp3", "flac", "ogg"} - {kind})
        found = fault(data, formats=others)
        assert found.kind is Fault.BAD_AUDIO
        assert "is said to be" in str(found)

    def test_the_rate_of_the_request_must_be_that_of_the_file(self) -> None:
        found = fault(wav(rate=22_050), source_rate=16_000)
        assert found.kind is Fault.BAD_AUDIO
        assert "16000 Hz" in str(found) and "22050 Hz" in str(found)
        assert len(clip_of(wav(rate=22_050), source_rate=22_050).samples) == 16_000

    @pytest.mark.parametrize(
        ("samples", "words"),
        [
            (np.zeros(16_000), "all samples are zero"),
            (np.full(159, 0.1), "at least 10 ms"),
            (np.array([0.1] * 800 + [np.nan] + [0.1] * 800), "NaN or infinite sample at 0.05"),
            (np.array([0.1] * 800 + [np.inf]), "NaN or infinite"),
        ],
    )
    def test_sound_that_says_nothing(self, samples: np.ndarray, words: str) -> None:
        found = fault(encoded(samples, subtype="FLOAT"))
        assert found.kind is Fault.BAD_AUDIO and words in str(found)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"hello, this is no sound",
            wav()[:30],
            wav()[:4000],
            wav(format="FLAC")[:-200],
            b"\0\0\0\x18ftypM4A " + bytes(600),
            b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(600),
        ],
    )
    def test_files_that_are_no_sound(self, data: bytes) -> None:
        assert fault(data).kind is Fault.BAD_AUDIO


class TestBase64:
    @pytest.mark.parametrize(
        "text",
        [
            "!!!",
            "UklGR",
            base64.urlsafe_b64encode(b"\xff\xfe\xfd" * 9).decode(),
            base64.encodebytes(wav()).decode(),
            base64_of(wav()) + " ",
            base64_of(wav()) + "=",
            "ÄÖÜ",
            "\ud800",
        ],
    )
    def test_broken(self, text: str) -> None:
        found = fault(text)
        assert found.kind is Fault.BAD_AUDIO and "base64" in str(found)

    def test_a_data_url_is_told_from_base64(self) -> None:
        found = fault("data:audio/wav;base64," + base64_of(wav()))
        assert "data: URL" in str(found)

    def test_size_is_bounded_before_it_is_decoded(self) -> None:
        limits = Limits(body_bytes=1000)
        assert fault("A" * 1340, limits=limits).kind is Fault.TOO_LARGE
        assert fault("A" * 1336, limits=limits).kind is Fault.BAD_AUDIO

    @given(st.text(max_size=200))
    @settings(deadline=None, max_examples=100)
    def test_any_text_is_refused_in_words(self, text: str) -> None:
        with pytest.raises(RequestFault):
            clip_of(text)


@given(data=st.data(), options=st.sampled_from(["WAV", "FLAC", "OGG", "MP3"]))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_damage_gives_a_clip_within_the_limits_or_a_fault_in_words(data: st.DataObject, options: str) -> None:
    file = bytearray(wav(0.3, format=options))
    for place in data.draw(st.lists(st.integers(0, min(len(file) - 1, 400)), max_size=8)):
        file[place] = data.draw(st.integers(0, 255))
    try:
        clip = clip_of(bytes(file), longest=1.0)
    except RequestFault as found:
        assert found.kind in (Fault.BAD_AUDIO, Fault.TOO_LARGE)
        assert str(found).startswith("audio 1: ") and "\n" not in str(found)
    else:
        assert 160 <= len(clip.samples) <= 16_000
        assert np.isfinite(clip.samples).all() and np.abs(clip.samples).max() <= 1


@pytest.fixture(scope="module")
def ten_hours() -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 4_000, 1, format="FLAC", subtype="PCM_16") as sound:
        silence = np.zeros(4_000 * 600, np.int16)
        for _ in range(60):
            sound.write(silence)
    return file.getvalue()


class TestLimits:
    def test_as_long_as_is_allowed_and_a_sample_more(self) -> None:
        assert len(clip_of(wav(2.0), longest=2.0).samples) == 32_000
        longer = encoded(np.full(32_001, 0.1))
        found = fault(longer, longest=2.0)
        assert found.kind is Fault.TOO_LARGE and "2 s" in str(found)
        streamed = without_length(wav(2.0, format="FLAC"))
        assert len(clip_of(streamed, longest=2.0).samples) == 32_000
        assert (
            fault(without_length(encoded(np.full(40_000, 0.1), format="FLAC")), longest=2.0).kind
            is Fault.TOO_LARGE
        )

    @pytest.mark.parametrize("stated", [True, False])
    def test_ten_hours_in_a_small_file_cost_nothing(self, ten_hours: bytes, stated: bool) -> None:
        assert len(ten_hours) < 2e6
        data = base64_of(ten_hours if stated else without_length(ten_hours))
        work = reader(60.0).from_base64(data, "audio 1")
        tracemalloc.start()
        began = time.monotonic()
        found = fault_of(work)
        seconds, (_, peak) = time.monotonic() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.kind is Fault.TOO_LARGE and "60 s" in str(found)
        assert seconds < 3 and peak < 40e6

    def test_an_mp3_without_a_stated_length_stops_at_the_limit(self) -> None:
        file = wav(1.0, rate=8_000, format="MP3")
        frames = file[file.index(b"\xff", 500) :]  # the first frame, which states the length, left off
        assert fault(frames * 100, longest=20.0).kind is Fault.TOO_LARGE

    @pytest.mark.parametrize(("channels", "frames"), [(65, 1000), (1000, 2000)])
    def test_many_channels(self, channels: int, frames: int) -> None:
        found = fault(encoded(np.full((frames, channels), 0.1, np.float32)))
        assert found.kind is Fault.BAD_AUDIO and f"{channels} channels" in str(found)
        assert len(clip_of(encoded(np.full((1000, 64), 0.1, np.float32))).samples) == 1000

    @pytest.mark.parametrize("rate", [100, 3_999, 384_001, 1_000_000, 2**31 - 1])
    def test_rates_that_nobody_records(self, rate: int) -> None:
        assert fault(encoded(np.full(4000, 0.1), rate)).kind is Fault.BAD_AUDIO

    def test_many_channels_at_a_high_rate_count_as_longer(self) -> None:
        samples = np.zeros((384_000 * 6, 8), np.int16)
        data = encoded(samples, 384_000, format="FLAC")
        found = fault(data, longest=60.0)  # of a minute, a good third may be decoded
        assert found.kind is Fault.BAD_AUDIO and "zero" in str(found)
        head = bytearray(data)
        total = 384_000 * 30
        head[22:26] = total.to_bytes(4, "big")
        found = fault(bytes(head), longest=60.0)
        assert found.kind is Fault.TOO_LARGE and "8 channels at 384000 Hz" in str(found)

    def test_no_more_are_decoded_at_once_than_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        running, most = 0, 0
        real = SoundReader._clip

        def counted(self: SoundReader, *args: Any) -> Clip:
            nonlocal running, most
            running += 1
            most = max(most, running)
            time.sleep(0.02)
            try:
                return real(self, *args)
            finally:
                running -= 1

        monkeypatch.setattr(SoundReader, "_clip", counted)
        one = reader()

        async def many() -> list[Clip]:
            return await asyncio.gather(*(one.from_base64(base64_of(wav(0.1)), "audio 1") for _ in range(12)))

        assert len(asyncio.run(many())) == 12
        assert most == 2


class TestFiles:
    @pytest.fixture
    def allowed(self, tmp_path: Path) -> Path:
        folder = tmp_path / "allowed"
        (folder / "night").mkdir(parents=True)
        (folder / "night" / "owl.wav").write_bytes(wav())
        (tmp_path / "secret.wav").write_bytes(wav())
        return folder

    def ask(self, allowed: Path, path: str | Path, **kwargs: Any) -> Clip:
        return asyncio.run(
            reader(folders=(allowed,), limits=kwargs.pop("limits", None)).from_file(
                str(path), "audio 1", **kwargs
            )
        )

    def refused(self, allowed: Path, path: str | Path, **kwargs: Any) -> RequestFault:
        with pytest.raises(RequestFault) as caught:
            self.ask(allowed, path, **kwargs)
        assert str(allowed.parent) not in str(caught.value)
        return caught.value

    def test_a_file_below_the_folder(self, allowed: Path) -> None:
        clip = self.ask(allowed, allowed / "night" / "owl.wav", source_rate=16_000)
        assert np.array_equal(clip.samples, read_audio(wav())) and clip.recording == "audio 1"
        assert self.refused(allowed, allowed / "night" / "owl.wav", source_rate=8_000).kind is Fault.BAD_AUDIO

    def test_links_within_the_folder_and_to_the_folder(self, allowed: Path, tmp_path: Path) -> None:
        (allowed / "latest").symlink_to(allowed / "night")
        (allowed / "one.wav").symlink_to("night/owl.wav")
        assert self.ask(allowed, allowed / "latest" / "owl.wav").end == 1
        assert self.ask(allowed, allowed / "one.wav").end == 1
        (tmp_path / "alias").symlink_to(allowed)
        assert self.ask(tmp_path / "alias", tmp_path / "alias" / "night" / "owl.wav").end == 1
        assert self.ask(tmp_path / "alias", allowed / "night" / "owl.wav").end == 1

    def test_one_message_for_all_that_is_not_there_or_not_allowed(
        self, allowed: Path, tmp_path: Path
    ) -> None:
        (allowed / "out.wav").symlink_to(tmp_path / "secret.wav")
        (allowed / "out").symlink_to(tmp_path)
        (allowed / "nowhere.wav").symlink_to(tmp_path / "missing.wav")
        (allowed / "circle").symlink_to(allowed / "circle")
        os.mkfifo(allowed / "pipe.wav")
        paths = [
            tmp_path / "secret.wav",
            tmp_path / "missing.wav",
            tmp_path / "allowed-too" / "x.wav",
            allowed / "missing.wav",
            allowed / "night" / "owl.wav" / "x",
            allowed,
            allowed / "night",
            allowed / "out.wav",
            allowed / "out" / "secret.wav",
            allowed / "out" / "allowed" / "missing.wav",
            allowed / "nowhere.wav",
            allowed / "circle",
            allowed / "pipe.wav",
            allowed / ("x" * 300),
            allowed / "\udc80\ud800",
            Path("/etc/passwd"),
            Path("/dev/zero"),
            Path("/proc/self/environ"),
        ]
        faults = {(found.kind, str(found)) for found in (self.refused(allowed, path) for path in paths)}
        assert faults == {
            (
                Fault.NOT_ALLOWED,
                "audio 1: there is no such file in the folders that this server may read",
            )
        }

    def test_a_device_below_the_folder(self) -> None:
        found = fault_of(reader(folders=(Path("/dev"),)).from_file("/dev/zero", "audio 1"))
        assert found.kind is Fault.NOT_ALLOWED

    @pytest.mark.parametrize(
        "text",
        [
            "night/owl.wav",
            "",
            "{folder}/../secret.wav",
            "{folder}/night/../night/owl.wav",
            "file://{folder}/night/owl.wav",
            "{folder}/night/owl.wav\0.txt",
            "~/x.wav",
        ],
    )
    def test_paths_that_are_not_whole(self, allowed: Path, text: str) -> None:
        assert self.refused(allowed, text.format(folder=allowed)).kind is Fault.INVALID

    def test_no_folders_no_files(self, allowed: Path) -> None:
        found = fault_of(reader().from_file(str(allowed / "night" / "owl.wav"), "audio 1"))
        assert found.kind is Fault.NOT_ALLOWED and "no files" in str(found)

    def test_size_is_bounded(self, allowed: Path) -> None:
        with (allowed / "large.wav").open("wb") as file:
            file.truncate(2**40)  # sparse: reading it all would never end
        found = self.refused(allowed, allowed / "large.wav", limits=Limits(body_bytes=10_000))
        assert found.kind is Fault.TOO_LARGE
        assert self.ask(allowed, allowed / "night" / "owl.wav", limits=Limits(body_bytes=32_044)).end == 1

    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_a_link_that_takes_the_place_of_what_was_checked(
        self, allowed: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The race: between the check of the path and its opening it becomes a link out of the folder."""
        (tmp_path / "owl.wav").write_bytes(wav(0.5, seed=9))
        real = Path.resolve

        def swapped(self: Path, strict: bool = False) -> Path:
            found = real(self, strict)
            if strict:
                if what == "file":
                    self.unlink()
                    self.symlink_to(tmp_path / "owl.wav")
                else:
                    self.parent.rename(tmp_path / "moved")
                    self.parent.symlink_to(tmp_path)
            return found

        asked = reader(folders=(allowed,))
        monkeypatch.setattr(Path, "resolve", swapped)
        found = fault_of(asked.from_file(str(allowed / "night" / "owl.wav"), "audio 1"))
        assert found.kind is Fault.NOT_ALLOWED

    @given(
        parts=st.lists(
            st.sampled_from(["..", ".", "night", "owl.wav", "out", "secret.wav", "allowed", "", "\0", "~"]),
            max_size=6,
        )
    )
    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_whatever_the_path_only_the_allowed_file_is_read(self, allowed: Path, parts: list[str]) -> None:
        out = allowed / "out"
        if not out.is_symlink():
            out.symlink_to(allowed.parent)
        (allowed.parent / "secret.wav").write_bytes(wav(0.5, seed=3))
        try:
            clip = self.ask(allowed, "/".join([str(allowed), *parts]))
        except RequestFault:
            return
        assert clip.end == 1


class TestUrls:
    def read(self, fetch: Callable[[str, str], bytes], **kwargs: Any) -> Clip:
        own = SoundReader(16_000, 10.0, Limits(), Access(), fetch=fetch)
        return asyncio.run(own.from_url("https://sounds.example/owl.wav", "audio 1", **kwargs))

    def test_what_was_fetched_is_read(self) -> None:
        seen = []

        def fetch(url: str, name: str) -> bytes:
            seen.append((url, name))
            return wav()

        assert np.array_equal(self.read(fetch, source_rate=16_000).samples, read_audio(wav()))
        assert seen == [("https://sounds.example/owl.wav", "audio 1")]
        with pytest.raises(RequestFault, match="8000 Hz"):
            self.read(fetch, source_rate=8_000)

    def test_faults_come_through(self) -> None:
        def fetch(url: str, name: str) -> bytes:
            raise RequestFault(Fault.NOT_ALLOWED, f"{name}: no")

        with pytest.raises(RequestFault, match="audio 1: no"):
            self.read(fetch)

    def test_by_default_no_host_is_asked(self) -> None:
        found = fault_of(reader().from_url("https://sounds.example/owl.wav", "audio 1"))
        assert found.kind is Fault.NOT_ALLOWED

    def test_slow_hosts_keep_no_other_clip_waiting(self) -> None:
        import threading

        go = threading.Event()

        def slow(url: str, name: str) -> bytes:
            go.wait(20)
            return wav()

        own = SoundReader(16_000, 10.0, Limits(), Access(), fetch=slow)

        async def both() -> None:
            waiting = [
                asyncio.create_task(own.from_url("https://sounds.example/x", "audio 1")) for _ in range(20)
            ]
            await asyncio.sleep(0)
            await asyncio.wait_for(own.from_base64(base64_of(wav()), "audio 2"), 5)
            go.set()
            await asyncio.gather(*waiting)

        asyncio.run(both())
