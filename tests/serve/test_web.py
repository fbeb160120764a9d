"""The web page without a browser: its answers and its tables."""

import asyncio
import io
import re
import time
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

pytest.importorskip("gradio", reason="the web page's packages are not here: pip install 'naturelm[web]'")

from web_serving import OWL, RECORDINGS, Controls, NoMeter, Running, text_of

from naturelm import NatureLM
from naturelm.answer.results import Answer, Choice
from naturelm.cli import app as command_line
from naturelm.corpus.spectrogram import spectrogram
from naturelm.scan.events import EventOptions
from naturelm.scan.options import Label
from naturelm.serve.asking import Asker
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import MIB, Limits, QueueOptions
from naturelm.serve.web import parts
from naturelm.serve.web.pictures import Painter, recording_levels
from naturelm.serve.web.scanning import Coming, Scans, ScanWanted
from naturelm.serve.web.uploads import Upload


def wav(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    sf.write(file, samples, rate, format=kind, subtype="PCM_16")
    return file.getvalue()


def noise(seconds: float, rate: int = 16_000) -> np.ndarray:
    return (np.random.default_rng(7).standard_normal(round(seconds * rate)) * 0.1).astype(np.float32)


# --- the page and what is beside it ---


def test_the_page_beside_the_other_addresses(page: Controls) -> None:
    assert page.http.get("/health").json() == {"ready": True}
    assert page.http.post("/predict").json() == {"schema_version": "predictions_v1"}
    assert page.http.get("/docs").status_code == 200
    index = page.http.get("/")
    assert index.status_code == 200 and '<html\n\tlang="en"' in index.text
    assert "NatureLM: questions about animal sounds" in index.text
    policy = index.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy  # nothing from elsewhere is let in
    loaded = re.findall(r"""<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=["']([^"']+)""", index.text)
    assert loaded and not [place for place in loaded if re.match(r"(https?:)?//", place)]
    theme = page.http.get("/theme.css").text
    assert "@import" not in theme and "fonts.g" not in theme


def test_nothing_is_told_to_gradio(page: Controls) -> None:
    config = page.http.get("/config").json()
    assert config["analytics_enabled"] is False
    assert not config.get("footer_links")
    assert {call["api_visibility"] for call in config["dependencies"]} == {"private"}
    assert str(Path.home()) not in str(config)


def test_every_control_has_a_label(page: Controls) -> None:
    kinds = {"textbox", "number", "checkbox", "checkboxgroup", "dropdown", "audio", "file"}
    for each in page.http.get("/config").json()["components"]:
        if each["type"] in kinds:
            assert each["props"]["label"], each
            assert each["props"].get("show_label", True) is not False


# --- answers ---


def test_an_answer_equals_asking(server: Running, page: Controls) -> None:
    expected = server.model.ask(RECORDINGS / "owl.flac", "What is it?")
    clip = page.upload("owl.flac", OWL)
    (html,) = page.use("ask-go", clip, "What is it?")
    assert expected.text.strip() in text_of(html)
    assert f"{expected.probability:.3f}" in html and "owl.flac" in html


def test_a_closed_set_equals_asking(server: Running, page: Controls) -> None:
    labels = ["Dog", "Cat", "Lazuli Bunting"]
    expected = server.model.ask(RECORDINGS / "owl.flac", "What is it?", choices=labels, none_of_these=True)
    clip = page.upload("owl.flac", OWL)
    (html,) = page.use("choose-go", clip, "What is it?", "Dog, Cat\nLazuli Bunting\n", True)
    found = re.findall(r'<th scope="row">(.*?)</th>.*?class="number">([\d.]+)</td>', html)
    assert found == [(choice.label, f"{choice.probability:.3f}") for choice in expected.choices]
    (html,) = page.use("choose-go", clip, "What is it?", "Dog, Cat", False)
    assert "None of these" not in html


def test_an_example_is_a_clip_with_its_spectrogram(page: Controls) -> None:
    (clip,) = page.use("ask-example-frog")
    assert clip["orig_name"] == "frog.flac"
    html, *_ = page.use("ask-clip", clip, event="change")
    assert "data:image/webp;base64," in html and 'alt="Spectrogram of frog.flac' in html
    assert "bigsoundbank.com" in str(page.http.get("/config").json())  # their source is named


@pytest.mark.parametrize(
    ("element", "values", "said"),
    [
        ("ask-go", [None, "What?"], "there is no recording yet"),
        ("ask-go", ["clip", "  "], "the question is empty"),
        ("ask-go", ["clip", "x" * 16_001], "at most 16000"),
        ("ask-go", ["clip", "why " * 600], "tokens; at most"),
        ("ask-go", ["clip", 7], "not a text"),
        ("choose-go", ["clip", "What?", "", False], "there are no labels"),
        ("choose-go", ["clip", "What?", "Dog, Dog", False], "given twice"),
        ("choose-go", ["clip", "What?", ",".join(map(str, range(1001))), False], "at most 1000"),
        ("choose-go", ["clip", "What?", "x" * 201, False], "longer than 200"),
        ("scan-go", ["clip", "", [], "", 5, 0, 0.25, True], "nothing to look for"),
        ("scan-go", ["clip", "Dog", [], "", 99, 0, 0.25, True], "Window: 99 s"),
        ("scan-go", ["clip", "Dog", [], "", -1, 0, 0.25, True], "must be positive"),
        ("scan-go", ["clip", "Dog", [], "", 5, 1e-9, 0.25, True], "give a longer Hop"),
        ("scan-go", ["clip", "Dog", [], "", "six", 0, 0.25, True], "Window: give a number"),
        ("scan-go", ["clip", "Dog", [], "", 5, 0, 7, True], "Least confidence: between 0 and 1"),
        ("scan-go", ["clip", "Dog", ["no such"], "", 5, 0, 0.5, True], "no question by that name"),
        ("scan-go", [None, "Dog", [], "", 5, 0, 0.25, True], "there is no recording yet"),
        ("batch-go", [None, "What?", "", False], "there are no recordings yet"),
        ("batch-go", [["clip"] * 9, "What?", "", False], "at most 8 at once"),
    ],
)
def test_what_cannot_be_asked_is_said_in_words(
    page: Controls, element: str, values: list[object], said: str
) -> None:
    clip = page.upload("owl.flac", OWL)
    put = [clip if value == "clip" else value for value in values]
    put = [[clip] * len(value) if isinstance(value, list) and "clip" in value else value for value in put]
    html = page.use(element, *put)[0]
    assert 'role="alert"' in html and said in text_of(html), html


@pytest.mark.parametrize("element", ["ask-go", "scan-go"])
def test_a_broken_file_goes_by_its_own_name(page: Controls, element: str) -> None:
    broken = page.upload("mein Kauz (1).wav", b"RIFF and no sound")
    values = [broken, "What?"] if element == "ask-go" else [broken, "Dog", [], "", 5, 0, 0.25, True]
    said = text_of(page.use(element, *values)[0])
    assert "mein Kauz (1).wav" in said
    assert str(Path(broken["path"]).parent) not in said and "Traceback" not in said and "/tmp" not in said


def test_hours_of_silence_in_a_small_file_are_refused_unheard(page: Controls) -> None:
    silence = io.BytesIO()
    with sf.SoundFile(silence, "w", 8_000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(8_000 * 60, np.int16))
    assert len(silence.getvalue()) < MIB
    clip = page.upload("silence.flac", silence.getvalue())
    began = time.monotonic()
    assert "3600 s of sound; at most" in page.use("ask-go", clip, "What?")[0]
    assert "at most 120 s" in page.use("scan-go", clip, "Dog", [], "", 5, 0, 0.25, True)[0]
    assert time.monotonic() - began < 5


def test_many_files_a_row_each(server: Running, page: Controls) -> None:
    names = ["owl.flac", "cow.flac", "dog.flac"]
    files = [page.upload(name, (RECORDINGS / name).read_bytes()) for name in names]
    files.insert(1, page.upload("broken.wav", b"nothing"))
    state, button, html = page.use("batch-go", files, "What is it?", "Dog, Cat", True)
    assert "3 answered, 1 not" in text_of(state)
    name, content = page.fetch(button)
    rows = [line.split(",") for line in content.decode().splitlines()]
    assert name == "answers.csv" and rows[0][:3] == ["File", "Answer", "Probability"]
    expected = server.model.ask(
        [RECORDINGS / name for name in names], "What is it?", choices=["Dog", "Cat"], none_of_these=True
    )
    assert [row[:3] for row in rows if row[0] in names] == [
        [name, answer.text, f"{answer.probability:.6f}"] for name, answer in zip(names, expected, strict=True)
    ]
    assert rows[2][0] == "broken.wav" and "broken.wav" in rows[2][4] and "/tmp" not in content.decode()
    assert html.count("<tr>") == 5


def test_all_that_a_page_shows_is_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>${alert(2)}"
    answer = Answer(evil, 0, 1, evil, evil, 0.5, choices=(Choice(evil, 0.5, -1.0),), model=evil)
    for html in (
        parts.answer(answer),
        parts.choices(answer),
        parts.fault(evil),
        parts.table(evil, (evil,), [(evil,)]),
        parts.progress(0.5, evil),
        parts.command(evil),
    ):
        assert "<img" not in html and "&lt;img" in html


# --- scans ---


def test_a_scan_gives_the_tables_of_the_command_line(
    page: Controls, model_folder: Path, tmp_path: Path
) -> None:
    name = "wald, Nacht (2)_20240131_053000.wav"
    sound = wav(noise(31.5, 22_050), 22_050)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(sound)
    labels = "Dog\nTurdus merula_Blackbird, Cat"
    state, timeline, events, *buttons = page.use(
        "scan-go", page.upload(name, sound), labels, ["count"], "What is it?", 5, 2.5, 0.0, True
    )
    assert "windows" in text_of(state) and "data:image/webp" in timeline
    (command,) = re.findall(r"<pre[^>]*>(.*?)</pre>", events, re.DOTALL)
    shown = unescape(command)
    assert shown.startswith("naturelm scan 'wald, Nacht (2)_20240131_053000.wav' -o scan")
    assert (
        "--model tiny" in shown
        and "Turdus merula_Blackbird" in shown
        and "--hop 2.5" in shown
        and "--preset count" in shown
    )

    arguments = ["--detect", "Dog,Turdus merula_Blackbird,Cat", "--preset", "count", "--ask", "What is it?"]
    arguments += [
        "--window",
        "5",
        "--hop",
        "2.5",
        "--min-confidence",
        "0",
        "--merge",
        "-m",
        str(model_folder),
    ]
    arguments += [word for kind in ("raven", "audacity", "csv") for word in ("--to", kind)]
    runs = {"relative": ["--relative-paths"], "whole": []}
    for out, more in runs.items():
        result = CliRunner().invoke(
            command_line,
            ["scan", str(tmp_path / "in" / name), "-o", str(tmp_path / out), *arguments, *more],
        )
        assert result.exit_code == 0, result.output
    for button, written in zip(
        buttons,
        (f"raven/{name}.selections.txt", f"audacity/{name}.labels.txt", "events.csv"),
        strict=True,
    ):
        _, content = page.fetch(button)
        assert len(content.splitlines()) > 5
        assert content == (tmp_path / "relative" / written).read_bytes()
        # By default the command line gives whole paths: the same but for the folder.
        whole = (tmp_path / "whole" / written).read_text()
        assert content.decode() == whole.replace(f"{tmp_path / 'in'}/", "")


def test_a_recording_that_breaks_off_gives_what_could_be_read(page: Controls) -> None:
    flac = wav(noise(30), kind="FLAC")
    cut = page.upload("cut.flac", flac[: len(flac) * 2 // 3])
    state, _, events, *_ = page.use("scan-go", cut, "Dog", [], "", 5, 0, 0, False)
    assert "cut.flac" in text_of(state) and 'role="alert"' in state and "/tmp" not in state
    assert "<td" in events


def scans(model: NatureLM, folder: Path, limits: Limits | None = None) -> tuple[Scans, Asker]:
    limits = limits or Limits()
    asker = Asker(model, QueueOptions(), limits, NoMeter())
    asker.start()
    return Scans(asker, limits, Painter(8_000), folder), asker


def long_upload(folder: Path, seconds: float) -> Upload:
    path = folder / "long.wav"
    path.write_bytes(wav(noise(seconds)))
    return Upload(path, "long.wav")


WANTED = ScanWanted(labels=(Label("Dog"), Label("Cat")), window=1.0, events=EventOptions(0.0))


def test_a_scan_that_is_stopped_ends_soon_and_leaves_nothing(server: Running, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    running_scans, asker = scans(server.model, work)
    upload = long_upload(tmp_path, 1_200)

    async def stop_soon() -> str:
        try:
            async for step in running_scans.scan(upload, WANTED, "me"):
                assert isinstance(step, Coming)
                if step.share > 0:
                    assert running_scans.stop("me") and not running_scans.stop("others")
        except RequestFault as fault:
            return str(fault)
        return "went on"

    async def twice() -> str:
        first = running_scans.scan(upload, WANTED, "me")
        await anext(first)
        with pytest.raises(RequestFault, match="already"):
            await anext(running_scans.scan(upload, WANTED, "me"))
        await first.aclose()
        return await stop_soon()

    began = time.monotonic()
    assert "stopped" in asyncio.run(twice())
    assert time.monotonic() - began < 20
    assert list(work.iterdir()) == []
    running_scans.close()
    with pytest.raises(RequestFault) as refused:
        asyncio.run(stop_soon_after_close(running_scans, upload))
    assert refused.value.kind is Fault.STOPPING
    asker.close(10)


async def stop_soon_after_close(running_scans: Scans, upload: Upload) -> None:
    await anext(running_scans.scan(upload, WANTED, "me"))


def test_a_scan_that_nobody_follows_ends(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("naturelm.serve.web.scanning._FOLLOWED", 0.5)
    work = tmp_path / "work"
    work.mkdir()
    running_scans, asker = scans(server.model, work)

    async def forgotten() -> None:
        scan = running_scans.scan(long_upload(tmp_path, 1_200), WANTED, "me")
        await anext(scan)
        await anext(scan)
        await asyncio.sleep(3)  # a browser that is gone asks for nothing more, and says nothing
        with pytest.raises(RequestFault, match="nobody followed"):
            async for _ in scan:
                pass

    asyncio.run(forgotten())
    assert list(work.iterdir()) == []
    asker.close(10)


def test_questions_are_answered_while_a_scan_runs(server: Running, page: Controls) -> None:
    """Each waits for one batch of the scan at most, not for its end."""
    recording = page.upload("long.wav", wav(noise(100)))
    clip = page.upload("owl.flac", OWL)
    expected = server.model.ask(RECORDINGS / "owl.flac", "What is it?")
    assert page.join("scan-go", [recording, "Dog, Cat", [], "", 1, 0.02, 0, False]).status_code == 200
    other = Controls(page.http.base_url, session=f"{page.session}b")
    coming = page.results()
    for message in coming:
        if message["msg"] == "process_generating" and "times real time" in str(message["output"]):
            break
    waits = []
    for number in range(5):
        began = time.monotonic()
        (html,) = other.use("ask-go", clip, f"What is it, number {number}?")
        waits.append(time.monotonic() - began)
        assert 'class="said"' in html
    (html,) = other.use("ask-go", clip, "What is it?")
    assert f"{expected.probability:.3f}" in html
    assert max(waits) < 10
    other.http.close()
    stopper = Controls(page.http.base_url, session=page.session)
    assert stopper.join("scan-stop", []).status_code == 200
    last = [m for m in coming if m["msg"] == "process_completed"]
    assert last
    stopper.http.close()


def test_levels_of_blocks_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = noise(9.7) * np.linspace(0.01, 1, round(9.7 * 16_000), dtype=np.float32)
    (tmp_path / "a.wav").write_bytes(wav(sound))
    read, _ = sf.read(tmp_path / "a.wav", dtype="float32")
    whole = spectrogram(read)
    monkeypatch.setattr("naturelm.serve.web.pictures._COLUMNS", 2_000)
    monkeypatch.setattr("naturelm.serve.web.pictures._BLOCK_SAMPLES", 128 * 250)
    found = recording_levels(tmp_path / "a.wav", len(read) / 16_000)
    assert found.levels.shape == whole.levels.shape and np.isfinite(found.levels).all()
    differing = np.abs(found.levels - whole.levels).max(0) > 0.01
    assert differing.mean() < 0.05  # at the seams, where frames mirror what they lack


def test_a_long_recording_keeps_its_short_sounds(tmp_path: Path) -> None:
    """One click in five minutes is still to be seen, at its time."""
    sound = np.zeros(300 * 8_000, np.float32)
    sound[round(123.4 * 8_000)] = 1.0
    (tmp_path / "click.wav").write_bytes(wav(sound, 8_000))
    levels = recording_levels(tmp_path / "click.wav", 300.0).levels
    loudest = int(levels.max(0).argmax())
    assert levels.shape[1] == 1_200 and loudest / 1_199 * 300 == pytest.approx(123.4, abs=0.5)
