"""The web page in a browser: headless Chromium, as Debian packages it, over the model that is shipped."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

pytest.importorskip("gradio", reason="the web page's packages are not here: pip install 'naturelm[web]'")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not here: pip install playwright"
)
from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402
from web_serving import RECORDINGS, Running, running  # noqa: E402

from naturelm import NatureLM  # noqa: E402
from naturelm.cli import app as command_line  # noqa: E402
from naturelm.scan.names import Preset  # noqa: E402
from naturelm.scan.options import DETECTION_QUESTION, PRESET_QUESTIONS  # noqa: E402

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
pytestmark = pytest.mark.skipif(
    shutil.which(CHROMIUM) is None,
    reason=f"{CHROMIUM} is not here: apt-get install chromium, or set CHROMIUM",
)
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
)
LABELS = ("Dog", "Cow", "Domestic duck", "Tawny owl", "Frog")
WINDOW = "5"
WAIT = 45_000  # ms; the model may have to share its processor
expect.set_options(timeout=WAIT)
SHOTS = os.environ.get("NATURELM_SHOTS")
"""A folder for screenshots, to be looked at."""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(NatureLM.from_pretrained("mini", device="cpu")) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playing:
        chromium = playing.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield chromium
        chromium.close()


def at(*widths: int) -> pytest.MarkDecorator:
    """The widths of a test's page, the first one by default; both where there are to be screenshots."""
    first, *others = (1280, 390) if SHOTS else widths
    slow = () if SHOTS else pytest.mark.slow
    return pytest.mark.parametrize(
        "page", [first, *(pytest.param(width, marks=slow) for width in others)], indirect=True
    )


@pytest.fixture
def page(request: pytest.FixtureRequest, server: Running, browser: Browser) -> Iterator[Page]:
    """The page at one width. All that it asks for must be the server's own, and no script may fail."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, locale="en-GB")
    opened = context.new_page()
    opened.set_default_timeout(WAIT)
    asked: list[str] = []
    wrong: list[str] = []
    context.on("request", lambda each: asked.append(each.url))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    opened.goto(server.url)
    expect(opened.get_by_role("tab", name="Ask")).to_be_visible()
    yield opened
    assert narrow_enough(opened)
    context.close()
    own = (f"{server.url}/", f"blob:{server.url}/", "data:")
    assert asked and not [url for url in asked if not url.startswith(own)]
    # A browser says so on its console of a file that it cannot play.
    assert not [text for text in wrong if text != "Waveform load error: MediaError"]


def narrow_enough(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        page.wait_for_timeout(400)
        page.screenshot(path=f"{SHOTS}/{name}-{page.viewport_size['width']}.png", full_page=True)


def night(folder: Path, name: str = "night 20240131_053000 (1).wav") -> Path:
    """A minute of faint noise with the example recordings in it."""
    sound = (np.random.default_rng(0).standard_normal(60 * 16_000) * 0.002).astype(np.float32)
    for second, animal in {3: "owl", 13: "cow", 22: "dog", 31: "duck", 44: "owl", 53: "frog"}.items():
        call, _ = sf.read(RECORDINGS / f"{animal}.flac", dtype="float32")
        sound[second * 16_000 : second * 16_000 + len(call)] += call
    sf.write(folder / name, np.clip(sound, -1, 1), 16_000, subtype="PCM_16")
    return folder / name


@at(1280, 390)
def test_ask_about_an_upload(server: Running, page: Page) -> None:
    assert page.title() == "NatureLM: questions about animal sounds"
    assert page.locator("html").get_attribute("lang") == "en"
    page.locator("#ask-clip input[type=file]").set_input_files(RECORDINGS / "owl.flac")
    picture = page.locator("#ask-spectrogram img")
    expect(picture).to_have_attribute("alt", "Spectrogram of owl.flac, 1.9 s")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    page.locator("#ask-go").click()
    expected = server.model.ask(RECORDINGS / "owl.flac", DETECTION_QUESTION)
    expect(page.locator("#ask-result .said")).to_have_text(expected.text)
    expect(page.locator("#ask-result .note b")).to_have_text(f"{expected.probability:.3f}")
    shoot(page, "ask")
    # Another clip: what was said of the first one goes.
    page.locator("#ask-example-pig").click()
    expect(picture).to_have_attribute("alt", "Spectrogram of pig.flac, 1.8 s")
    expect(page.locator("#ask-result .said")).to_have_count(0)
    page.get_by_label("Usual questions").first.click()
    page.get_by_role("option", name="Describe the recording").click()
    expect(page.locator("#ask-question textarea")).to_have_value(PRESET_QUESTIONS[Preset.CAPTION])
    page.locator("#ask-go").click()
    expected = server.model.ask(RECORDINGS / "pig.flac", PRESET_QUESTIONS[Preset.CAPTION])
    expect(page.locator("#ask-result .said")).to_have_text(expected.text)


@at(390)
def test_choose_from_a_closed_set(server: Running, page: Page) -> None:
    page.get_by_role("tab", name="Choose").click()
    page.locator("#choose-example-frog").click()
    expect(page.locator("#choose-spectrogram img")).to_be_visible()
    page.locator("#choose-labels textarea").fill(", ".join(LABELS) + "\n<i>${7*7}</i>")
    page.get_by_label("None of these may be right, too").first.check()
    page.locator("#choose-go").click()
    labels = [*LABELS, "<i>${7*7}</i>"]
    expected = server.model.ask(
        RECORDINGS / "frog.flac", DETECTION_QUESTION, choices=labels, none_of_these=True
    )
    expect(page.locator("#choose-result .said")).to_have_text(expected.text)
    rows = page.locator("#choose-result tr")
    assert [row.split("\t") for row in map(_tabbed, rows.all())] == [
        [choice.label, f"{choice.probability:.3f}"] for choice in expected.choices
    ]
    widths = [bar.evaluate("bar => bar.offsetWidth") for bar in rows.locator(".bar span").all()]
    assert widths == sorted(widths, reverse=True) and widths[0] > 20
    shoot(page, "choose")


def _tabbed(row: object) -> str:
    cells = row.locator("th, td.number")  # type: ignore[attr-defined]
    return "\t".join(cells.all_inner_texts())


@at(1280, 390)
def test_scan_a_minute_to_the_tables_of_the_command_line(page: Page, tmp_path: Path) -> None:
    recording = night(tmp_path)
    page.get_by_role("tab", name="Scan").click()
    page.locator("#scan-file input[type=file]").set_input_files(recording)
    expect(page.locator("#scan-file").get_by_role("cell", name="night")).to_be_visible()
    page.locator("#scan-labels textarea").fill("\n".join(LABELS))
    page.get_by_label("Window (s)").fill(WINDOW)
    page.locator("#scan-go").click()
    expect(page.locator("#scan-state progress")).to_be_visible()
    expect(page.locator("#scan-state")).to_contain_text("of 60 s")  # progress, before the end
    expect(page.locator("#scan-events table")).to_be_visible()
    expect(page.locator("#scan-timeline img")).to_have_attribute("alt", _events_of(page))
    page.locator("#scan-events summary").click()
    shoot(page, "scan")
    if page.viewport_size["width"] < 400:  # type: ignore[index]
        return  # the tables once are enough
    out = tmp_path / "out"
    asked = ["--detect", ",".join(LABELS), "--window", WINDOW, "--merge", "--relative-paths"]
    tables = [word for kind in ("raven", "audacity", "csv") for word in ("--to", kind)]
    command = ["scan", str(recording), "-o", str(out), *asked, *tables]
    done = CliRunner().invoke(command_line, command)
    assert done.exit_code == 0, done.output
    for kind, written in {
        "raven": f"raven/{recording.name}.selections.txt",
        "audacity": f"audacity/{recording.name}.labels.txt",
        "csv": "events.csv",
    }.items():
        with page.expect_download() as download:
            page.locator(f"#scan-{kind}").click()
        assert Path(download.value.path()).read_bytes() == (out / written).read_bytes()
    rows = (out / "raven" / f"{recording.name}.selections.txt").read_text().splitlines()[1:]
    assert len(rows) >= 3
    shown = page.locator("#scan-events tbody tr").all()
    assert [row.locator("td").all_inner_texts() for row in shown] == [
        [label, f"{float(begin):.2f}", f"{float(end):.2f}", f"{float(score):.3f}"]
        for begin, end, label, score in ((*row.split("\t")[3:5], *row.split("\t")[10:12]) for row in rows)
    ]


def _events_of(page: Page) -> str:
    number = page.locator("#scan-events tbody tr").count()
    return f"Timeline of {number} event{'' if number == 1 else 's'} over the spectrogram of night 20240131_053000 (1).wav"


@at(390)
def test_many_files_and_a_broken_one(server: Running, page: Page, tmp_path: Path) -> None:
    (tmp_path / "broken one.wav").write_bytes(b"RIFF, but no sound")
    names = ["cow.flac", "duck.flac"]
    page.get_by_role("tab", name="Batch").click()
    files = [RECORDINGS / names[0], tmp_path / "broken one.wav", RECORDINGS / names[1]]
    page.locator("#batch-files input[type=file]").set_input_files(files)
    expect(page.locator("#batch-files").get_by_role("cell", name="broken one.wav")).to_be_visible()
    page.locator("#batch-go").click()
    expect(page.locator("#batch-state")).to_contain_text("2 answered, 1 not")
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#batch-answers tbody tr").all()]
    answers = server.model.ask([RECORDINGS / name for name in names], DETECTION_QUESTION)
    assert [rows[0], rows[2]] == [
        [name, answer.text, f"{answer.probability:.3f}"] for name, answer in zip(names, answers, strict=True)
    ]
    assert rows[1][0] == "broken one.wav" and "not answered: broken one.wav: is damaged" in rows[1][1]
    with page.expect_download() as download:
        page.locator("#batch-csv").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 4
    shoot(page, "batch")


@at(390)
def test_a_broken_clip_is_refused_in_words(page: Page, tmp_path: Path) -> None:
    (tmp_path / "kaputt.wav").write_bytes(b"RIFF, but no sound")
    page.locator("#ask-clip input[type=file]").set_input_files(tmp_path / "kaputt.wav")
    expect(page.locator("#ask-spectrogram").get_by_role("alert")).to_contain_text("kaputt.wav: is damaged")
    page.locator("#ask-go").click()
    said = page.locator("#ask-result").get_by_role("alert")
    expect(said).to_contain_text("kaputt.wav: is damaged or cut off")
    assert "/" not in said.inner_text().replace("WAV or FLAC", "") and "Traceback" not in page.content()
    shoot(page, "broken")


@at(1280)
def test_with_the_keyboard_alone(server: Running, page: Page) -> None:
    """Tab, arrows, space and Enter; every stop can be seen to be one."""
    # Long before it is needed: a chooser that opens sooner than the browser is told to hand it over is lost.
    page.on("filechooser", lambda chooser: chooser.set_files(RECORDINGS / "dog.flac"))
    expect(page.locator("#ask-clip").get_by_role("button").first).to_be_visible()
    page.wait_for_timeout(500)
    focus_on(page, "#ask-clip", "button")
    page.keyboard.press("Enter")
    expect(page.locator("#ask-spectrogram img")).to_be_visible()
    focus_on(page, "#ask-question", "textarea")
    page.keyboard.press("Control+A")
    page.keyboard.type("Which animal is this?")
    focus_on(page, "#ask-go")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") != "0px"
    page.keyboard.press("Enter")
    expected = server.model.ask(RECORDINGS / "dog.flac", "Which animal is this?")
    expect(page.locator("#ask-result .said")).to_have_text(expected.text)
    focus_on(page, "[role=tab]:nth-of-type(2)", backwards=True)
    page.keyboard.press("Enter")
    expect(page.locator("#choose-go")).to_be_visible()
    focus_on(page, "#choose-example-cow")
    page.keyboard.press("Space")
    expect(page.locator("#choose-spectrogram img")).to_be_visible()
    focus_on(page, "#choose-labels", "textarea")
    page.keyboard.type("Cow, Dog")
    focus_on(page, "#choose-none", "input")
    page.keyboard.press("Space")
    focus_on(page, "#choose-go")
    page.keyboard.press("Enter")
    expect(page.locator("#choose-result .said")).to_have_text("Cow")
    expect(page.locator("#choose-result tr")).to_have_count(3)


def focus_on(page: Page, where: str, kind: str = "", *, backwards: bool = False) -> None:
    """Go on from stop to stop until the focus is there."""
    inside = f"{where} {kind}" if kind else f"{where}, {where} *"
    for _ in range(60):
        if page.evaluate("where => document.activeElement.matches(where)", inside):
            return
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
    raise AssertionError(f"{where} cannot be reached with the keyboard")


@at(1280)
def test_a_recording_of_the_microphone(page: Page) -> None:
    page.context.grant_permissions(["microphone"])
    page.locator("#ask-clip").get_by_label("Record audio").first.click()
    page.locator("#ask-clip").get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1_500)
    page.locator("#ask-clip").get_by_role("button", name="Stop").last.click()
    expect(page.locator("#ask-spectrogram img")).to_be_visible()
    page.locator("#ask-go").click()
    expect(page.locator("#ask-result .said")).to_be_visible()
