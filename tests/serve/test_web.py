"""The web page without a browser: its answers, its tables, and the doors that it must keep shut."""

import asyncio
import http.server
import io
import re
import threading
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

pytest.importorskip("gradio", reason="the web page's packages are not here: pip install 'naturelm[web]'")

from web_serving import RECORDINGS, Controls, NoMeter, Running, file_data, running

from naturelm import NatureLM
from naturelm.answer.results import Answer, Choice
from naturelm.cli import app as command_line
from naturelm.corpus.spectrogram import spectrogram
from naturelm.scan.events import EventOptions
from naturelm.scan.options import Label
from naturelm.serve.asking import Asker
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import MIB, Limits, QueueOptions, ServeOptions
from naturelm.serve.web import parts
from naturelm.serve.web.gate import folder_has_room
from naturelm.serve.web.pictures import Painter, recording_levels
from naturelm.serve.web.scanning import Coming, Scans, ScanWanted
from naturelm.serve.web.uploads import Upload, plain_name, received, split_labels
from tiny import tiny_naturelm

OWL = (RECORDINGS / "owl.flac").read_bytes()
OPTIONS = ServeOptions(limits=Limits(body_bytes=4 * MIB, recording_seconds=120, items=8))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_model")
    tiny = tiny_naturelm()
    tiny.model.save_pretrained(folder)
    tiny.processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(model_folder: Path) -> Iterator[Running]:
    model = NatureLM.from_pretrained(model_folder, device="cpu")
    model.name = "tiny"  # as the server calls a model in a folder
    with running(model, OPTIONS) as started:
        yield started


@pytest.fixture
def page(server: Running) -> Iterator[Controls]:
    controls = Controls(server.url, session=f"s{time.monotonic_ns()}")
    yield controls
    controls.http.close()


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """A server that notes who asks it for what."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(OWL)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", asked
        listening.shutdown()


def wav(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    sf.write(file, samples, rate, format=kind, subtype="PCM_16")
    return file.getvalue()


def noise(seconds: float, rate: int = 16_000) -> np.ndarray:
    return (np.random.default_rng(7).standard_normal(round(seconds * rate)) * 0.1).astype(np.float32)


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", html))


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


# --- doors ---


def outside(tmp_path: Path) -> Path:
    file = tmp_path / "secret.wav"
    file.write_bytes(OWL)
    return file


def test_no_other_file_of_the_server_is_read(page: Controls, tmp_path: Path) -> None:
    own = page.upload("owl.flac", OWL)
    link = Path(own["path"]).parent / "link.flac"
    link.symlink_to(outside(tmp_path))
    kept = Path(own["path"]).parents[1]
    before = set(kept.rglob("*"))
    ways = [
        str(outside(tmp_path)),
        f"{Path(own['path']).parent}/../../../../../..{outside(tmp_path)}",
        str(link),
        "/etc/passwd",
        "owl.flac",
        "",
        "\0",
        f"file://{own['path']}",
        str(Path(own["path"]).parent),
    ]
    for way in ways:
        for element, values in {
            "ask-go": [file_data(way, "x.wav"), "What?"],
            "scan-go": [file_data(way, "x.wav"), "Dog", [], "", 5, 0, 0, False],
            "batch-go": [[own, file_data(way, "x.wav")], "What?", "Dog, Cat", False],
        }.items():
            refused = page.join(element, values)
            # A folder of the page's own passes the gate, and is no recording.
            if refused.status_code == 200:
                assert way == str(Path(own["path"]).parent)
                assert 'class="said"' not in str(list(page.results()))
            else:
                assert refused.status_code == 400 and "upload it again" in refused.text
    assert set(kept.rglob("*")) == before  # and nothing was copied to where it could be fetched
    link.unlink()
    assert page.http.get(f"/gradio_api/file={own['path']}").content == OWL
    for way in [*ways, f"{own['path']}/../../../secret", str(RECORDINGS / "owl.flac"), "/proc/self/environ"]:
        assert page.http.get(f"/gradio_api/file={quote(way)}").status_code in (400, 403, 404), way


def test_no_address_is_fetched(page: Controls, canary: tuple[str, list[str]]) -> None:
    url, asked = canary
    own = page.upload("owl.flac", OWL)
    for payload in (
        {"path": f"{url}/a.wav", "meta": {"_type": "gradio.FileData"}},
        {
            "path": f"{url}/b.wav",
            "url": f"{url}/b.wav",
            "orig_name": "b.wav",
            "meta": {"_type": "gradio.FileData"},
        },
        {"url": f"{url}/c.wav", "meta": {"_type": "gradio.FileData"}},
        f"{url}/d.wav",
    ):
        for element, values in {
            "ask-go": [payload, "What?"],
            "batch-go": [[payload], "What?", "", False],
        }.items():
            joined = page.join(element, values)
            if joined.status_code == 200:  # it names no path at all
                assert isinstance(payload, str) or "path" not in payload
                assert 'class="said"' not in str(list(page.results()))
    # An address beside a file that is here is not looked at.
    assert 'class="said"' in page.use("ask-go", {**own, "url": f"{url}/e.wav"}, "What?")[0]
    for way in (
        f"/gradio_api/file={url}/f.wav",
        f"/gradio_api/proxy={url}/g.wav",
        f"/gradio_api/file/{url}/h.wav",
    ):
        assert page.http.get(way).status_code == 404
    assert asked == []


def test_gradios_other_doors_are_shut(page: Controls) -> None:
    for way in (
        "run/predict", "api/predict", "call/ask", "call/v2/ask", "vibe-edit", "vibe-code", "component_server",
        "process_recording", "stream/x", "queue/join/../../run/predict", "mcp", "run-history/connect",
    ):  # fmt: skip
        assert page.http.post(f"/gradio_api/{way}", json={"data": []}).status_code in (404, 405), way
    for way in (
        "/gradio_api/openapi.json", "/gradio_api/token", "/monitoring", "/monitoring/summary", "/gradio_api/dev/reload",
        "/gradio_api/deep_link", "/login", "/gradio_api/runs", "/gradio_api/profiling/traces", "/gradio_api/queue/status",
        "/assets/../../../routes.py", "/static/..%2f..%2f..%2froutes.py", "/../../etc/passwd",
    ):  # fmt: skip
        assert page.http.get(way).status_code in (400, 403, 404, 405), way
    assert page.http.put("/gradio_api/upload").status_code == 404


def test_uploads_and_calls_are_bounded(page: Controls, tmp_path: Path) -> None:
    big = page.http.post("/gradio_api/upload", files={"files": ("big.wav", bytes(4 * MIB + 1))})
    assert big.status_code == 413
    call = page.http.post(
        "/gradio_api/queue/join",
        content=b'{"data": ["' + b"x" * MIB + b'"]}',
        headers={"content-type": "application/json"},
    )
    assert call.status_code == 413
    unstated = page.http.post(
        "/gradio_api/queue/join", content=iter([b"{}"]), headers={"content-type": "application/json"}
    )
    assert unstated.status_code == 413
    for number in range(3):
        (tmp_path / str(number)).write_bytes(bytes(1000))
    assert folder_has_room(tmp_path, 3001) and not folder_has_room(tmp_path, 3000)


def test_uploads_are_checked_again_where_they_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "a.wav").write_bytes(OWL)
    (folder / "link.wav").symlink_to(outside(tmp_path))
    assert received(file_data(str(folder / "a.wav"), "../b.wav"), folder).name == "b.wav"
    for way in (
        str(folder / "link.wav"),
        f"{folder}/../secret.wav",
        str(folder),
        "https://example.org/a.wav",
        "\0",
    ):
        with pytest.raises(RequestFault):
            received(file_data(way, "x.wav"), folder)


def test_what_a_call_may_hold(page: Controls) -> None:
    for body in (b"", b"{", b"[]", b'{"data": 3}', b'{"fn_index": 999, "data": [], "session_hash": "x"}'):
        response = page.http.post(
            "/gradio_api/queue/join", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code < 500 or "Traceback" not in response.text
        assert "site-packages" not in response.text


def test_a_server_with_open_pages_stops_soon_and_keeps_nothing(model_folder: Path) -> None:
    model = NatureLM.from_pretrained(model_folder, device="cpu")
    with running(model, OPTIONS) as own:
        page = Controls(own.url, session="open")
        kept = Path(page.upload("owl.flac", OWL)["path"])
        assert kept.is_file()
        with page.http.stream("GET", "/gradio_api/heartbeat/open") as heartbeat:
            beats = heartbeat.iter_lines()
            assert "ALIVE" in next(beats)
            began = time.monotonic()
            own.app.state.close_web()
            list(beats)  # ends
            assert time.monotonic() - began < 5
        page.http.close()
    assert not kept.exists()


@given(st.text())
def test_names_are_plain(given_name: str) -> None:
    name = plain_name(given_name)
    assert name and "/" not in name and "\0" not in name and not name.startswith(".")
    assert len(name.encode()) <= 200 and name.isprintable()
    assert plain_name(f"C:\\sounds\\{name}") == plain_name(f"../{name}") == name


@given(st.lists(st.text(st.characters(blacklist_characters=",\n", blacklist_categories=("Cs",)))))
def test_labels_by_line_or_comma(labels: list[str]) -> None:
    expected = tuple(label.strip() for label in labels if label.strip())
    assert split_labels("\n".join(labels)) == split_labels(", ".join(labels)) == expected


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_whatever_a_browser_sends_for_a_file(
    tmp_path_factory: pytest.TempPathFactory, payload: object
) -> None:
    with pytest.raises(RequestFault):
        received(payload, Path("/nonexistent/folder"))
