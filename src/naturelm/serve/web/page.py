"""The page: its tabs, and what happens at each control.

Values come from the browser as they are (`preprocess=False`) and are checked here, since gradio takes whatever it gets
for what its controls send.
"""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from naturelm.errors import NatureLMError
from naturelm.scan.events import LEAST_OF_LABELS
from naturelm.scan.finding import SUFFIXES
from naturelm.scan.names import Format, Preset
from naturelm.scan.options import DETECTION_QUESTION, PRESET_QUESTIONS
from naturelm.serve.asking import Asker
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import MIB, Limits, ServeOptions
from naturelm.serve.web import parts
from naturelm.serve.web.asking import Clips, Row, Wanted, write_rows
from naturelm.serve.web.examples import CREDIT, Example, examples
from naturelm.serve.web.pictures import Painter
from naturelm.serve.web.scanning import FORMATS, Coming, Scanned, Scans, ScanWanted
from naturelm.serve.web.uploads import Upload, check_length, in_page_words, received

log = logging.getLogger("naturelm.serve")

_KEPT_SECONDS = 3_600
_SWEPT_EVERY = 600
_CALLS_AT_ONCE = 16
_SCANS_AT_ONCE = 2
_BATCHES_AT_ONCE = 4
_TABLES = {
    Format.RAVEN: "Download Raven table",
    Format.AUDACITY: "Download Audacity labels",
    Format.CSV: "Download CSV",
}
_PRESETS = {
    Preset.SPECIES: "Which species?",
    Preset.CAPTION: "Describe the recording",
    Preset.CALL_TYPE: "Which type of call?",
    Preset.LIFE_STAGE: "Which stage of life?",
    Preset.COUNT: "How many individuals?",
}
_PRIVATE: dict[str, Any] = {"preprocess": False, "api_visibility": "private"}


class Page:
    """All that the page does. cache: gradio's folder, where uploads lie. work: a folder for what is being made."""

    def __init__(self, asker: Asker, options: ServeOptions, cache: Path, work: Path) -> None:
        self._asker = asker
        self._options = options
        self._limits: Limits = options.limits
        self._cache = cache
        self._work = work
        self._painter = Painter(asker.model.sampling_rate / 2)
        self._clips = Clips(asker, self._limits)
        self.scans = Scans(asker, self._limits, self._painter, work)
        self._examples = _copied(examples(), work / "examples")

    def blocks(self) -> gr.Blocks:
        """The page, to be mounted."""
        clip_seconds = min(self._limits.clip_seconds, self._asker.model.model.config.max_clip_seconds)
        with gr.Blocks(
            title="NatureLM: questions about animal sounds",
            analytics_enabled=False,
            delete_cache=(_SWEPT_EVERY, _KEPT_SECONDS),
        ) as page:
            _html(
                '<header class="heading"><h1>NatureLM</h1><p>Questions about recordings of animals, answered by the model '
                f"<b>{escape(self._asker.model.name)}</b> on this server. Answers can be wrong: listen, and look, before "
                "you rely on one. Recordings stay on this server and are deleted within two hours.</p></header>"
            )
            with gr.Tabs():
                with gr.Tab("Ask", id="ask"):
                    self._ask_tab(clip_seconds)
                with gr.Tab("Choose", id="choose"):
                    self._choose_tab(clip_seconds)
                with gr.Tab("Scan", id="scan"):
                    self._scan_tab()
                with gr.Tab("Batch", id="batch"):
                    self._batch_tab(clip_seconds)
        page.queue(
            max_size=self._options.queue.queue_size, api_open=False, default_concurrency_limit=_CALLS_AT_ONCE
        )
        return page

    # --- the tabs ---

    def _ask_tab(self, clip_seconds: float) -> None:
        clip, spectrogram = self._clip_input(clip_seconds, "ask")
        question = _question("ask")
        asking = gr.Button("Ask", variant="primary", elem_id="ask-go")
        result = _html(elem_id="ask-result")
        for event in (asking.click, question.submit):
            event(self._ask, [clip, question], result, show_progress="minimal", **_PRIVATE)
        _clear_on_change(clip, result)
        clip.change(self._look, clip, spectrogram, show_progress="hidden", **_PRIVATE)

    def _choose_tab(self, clip_seconds: float) -> None:
        clip, spectrogram = self._clip_input(clip_seconds, "choose")
        question = _question("choose")
        labels = gr.Textbox(
            label="Labels",
            info="One a line, or with commas between. Their probabilities add up to 1.",
            placeholder="Dog\nCow\nTawny owl",
            lines=4,
            max_lines=12,
            elem_id="choose-labels",
        )
        none = gr.Checkbox(label="None of these may be right, too", value=False, elem_id="choose-none")
        choosing = gr.Button("Choose", variant="primary", elem_id="choose-go")
        result = _html(elem_id="choose-result")
        choosing.click(
            self._choose, [clip, question, labels, none], result, show_progress="minimal", **_PRIVATE
        )
        _clear_on_change(clip, result)
        clip.change(self._look, clip, spectrogram, show_progress="hidden", **_PRIVATE)

    def _scan_tab(self) -> None:
        model = self._asker.model.model.config
        _html(
            parts.note(
                f"A recording of up to {self._limits.recording_seconds / 60:g} minutes and "
                f"{self._limits.body_bytes / MIB:g} MiB is cut into windows, and each is listened to. "
                "Longer ones, and folders of them: naturelm scan, on the command line."
            )
        )
        recording = gr.File(
            label="Recording", file_types=sorted(SUFFIXES), elem_id="scan-file", height=120, type="filepath"
        )
        labels = gr.Textbox(
            label="Labels to look for",
            info="One a line, or with commas between; each window gets a score for each, and for none of them.",
            placeholder="Dog\nCow\nTawny owl",
            lines=3,
            max_lines=12,
            elem_id="scan-labels",
        )
        with gr.Accordion("Questions to each window", open=False):
            presets = gr.CheckboxGroup(
                [(text, preset.value) for preset, text in _PRESETS.items()],
                label="Usual questions",
                elem_id="scan-presets",
            )
            question = gr.Textbox(label="Own question", elem_id="scan-question", max_lines=3)
        with gr.Row():
            window = gr.Number(
                label="Window (s)",
                info=f"At most {model.max_clip_seconds:g}",
                value=model.clip_seconds,
                minimum=0.1,
                min_width=130,
                elem_id="scan-window",
            )
            hop = gr.Number(
                label="Hop (s)",
                info="0: the window's length",
                value=0,
                minimum=0,
                min_width=130,
                elem_id="scan-hop",
            )
            least = gr.Number(
                label="Least confidence",
                info=f"0 to 1; at {LEAST_OF_LABELS:g}, answers of any",
                value=LEAST_OF_LABELS,
                minimum=0,
                maximum=1,
                step=0.05,
                min_width=130,
                elem_id="scan-least",
            )
        merge = gr.Checkbox(label="Join neighbouring windows of one label", value=True, elem_id="scan-merge")
        with gr.Row():
            scanning = gr.Button("Scan", variant="primary", elem_id="scan-go", min_width=130)
            stopping = gr.Button("Stop", elem_id="scan-stop", min_width=130)
        state = _html(elem_id="scan-state")
        timeline = _html(elem_id="scan-timeline")
        with gr.Row():
            files = [
                gr.DownloadButton(text, visible=False, elem_id=f"scan-{kind.value}", size="sm", min_width=200)
                for kind, text in _TABLES.items()
            ]
        found = _html(elem_id="scan-events")
        scanning.click(
            self._scan,
            [recording, labels, presets, question, window, hop, least, merge],
            [state, timeline, found, *files],
            show_progress="hidden",
            concurrency_limit=_SCANS_AT_ONCE,
            **_PRIVATE,
        )
        stopping.click(self._stop, None, None, show_progress="hidden", queue=True, **_PRIVATE)

    def _batch_tab(self, clip_seconds: float) -> None:
        recordings = gr.File(
            label=f"Recordings, at most {self._limits.items}, each of at most {clip_seconds:g} s",
            file_count="multiple",
            file_types=sorted(SUFFIXES),
            elem_id="batch-files",
            height=240,
            type="filepath",
        )
        question = _question("batch")
        labels = gr.Textbox(
            label="Labels",
            info="One a line, or with commas between. Empty: free answers.",
            lines=2,
            max_lines=12,
            elem_id="batch-labels",
        )
        none = gr.Checkbox(label="None of these may be right, too", value=False, elem_id="batch-none")
        asking = gr.Button("Ask about all", variant="primary", elem_id="batch-go")
        state = _html(elem_id="batch-state")
        file = gr.DownloadButton("Download CSV", visible=False, elem_id="batch-csv", size="sm")
        answers = _html(elem_id="batch-answers")
        asking.click(
            self._batch,
            [recordings, question, labels, none],
            [state, file, answers],
            show_progress="hidden",
            concurrency_limit=_BATCHES_AT_ONCE,
            **_PRIVATE,
        )

    def _clip_input(self, clip_seconds: float, tab: str) -> tuple[gr.Audio, gr.HTML]:
        """A clip by upload, microphone or example, and the place of its spectrogram."""
        clip = gr.Audio(
            label=f"Clip of at most {clip_seconds:g} s",
            sources=["upload", "microphone"],
            type="filepath",
            editable=False,
            buttons=[],
            elem_id=f"{tab}-clip",
        )
        if self._examples:
            with gr.Row(elem_classes="examples"):
                for example in self._examples:
                    taking = gr.Button(
                        f"{example.name}",
                        size="sm",
                        min_width=68,
                        elem_id=f"{tab}-example-{example.path.stem}",
                    )
                    taking.click(
                        lambda path=str(example.path): path, None, clip, show_progress="hidden", **_PRIVATE
                    )
            _html(f'<p class="credit">{CREDIT}</p>')
        return clip, _html(elem_id=f"{tab}-spectrogram")

    # --- what they do ---

    async def _look(self, clip: object) -> str:
        """The spectrogram of a new clip."""
        if clip is None:
            return ""

        def draw() -> str:
            upload = received(clip, self._cache)
            seconds = check_length(
                upload,
                min(self._limits.clip_seconds, self._asker.model.model.config.max_clip_seconds),
                "cut it, or look through it under Scan",
            )
            with in_page_words(upload):
                return self._painter.recording(upload.path, upload.name, seconds)

        async def looked() -> str:
            return await asyncio.to_thread(draw)

        return await in_words(looked)

    async def _ask(self, clip: object, question: object) -> str:
        async def asked() -> str:
            wanted = Wanted.checked(question, None, None, self._limits)
            return parts.answer(await self._clips.ask(received(clip, self._cache), wanted))

        return await in_words(asked)

    async def _choose(self, clip: object, question: object, labels: object, none: object) -> str:
        async def chosen() -> str:
            wanted = Wanted.checked(question, labels or "", none, self._limits)
            return parts.choices(await self._clips.ask(received(clip, self._cache), wanted))

        return await in_words(chosen)

    async def _batch(
        self, files: object, question: object, labels: object, none: object
    ) -> AsyncIterator[tuple[Any, ...]]:
        no_file = gr.DownloadButton(value=None, visible=False)
        try:
            wanted = Wanted.checked(question, labels or None, none, self._limits)
            uploads = self._received_all(files)
            self._asker.check_room()
            yield parts.progress(0, f"0 of {len(uploads)} files"), no_file, ""
            rows: list[Row] = []
            async for part in self._clips.ask_each(uploads, wanted):
                rows += part
                yield (
                    parts.progress(len(rows) / len(uploads), f"{len(rows)} of {len(uploads)} files"),
                    no_file,
                    _answers(rows),
                )
        except Exception as error:
            yield parts.fault(words(error)), no_file, ""
            return
        with tempfile.TemporaryDirectory(dir=self._work) as place:
            path = Path(place) / "answers.csv"
            write_rows(rows, path)
            failed = sum(row.answer is None for row in rows)
            told = f"{len(rows) - failed} answered, {failed} not" if failed else f"{len(rows)} answered"
            yield (
                parts.progress(1, told),
                gr.DownloadButton(value=str(path), visible=True),
                _answers(rows),
            )

    def _received_all(self, files: object) -> list[Upload]:
        if not isinstance(files, list) or not files:
            raise RequestFault(Fault.INVALID, "there are no recordings yet: upload some")
        if len(files) > self._limits.items:
            raise RequestFault(
                Fault.TOO_LARGE, f"{len(files)} recordings; at most {self._limits.items} at once"
            )
        return [received(file, self._cache) for file in files]

    async def _scan(
        self,
        file: object,
        labels: object,
        presets: object,
        question: object,
        window: object,
        hop: object,
        least: object,
        merge: object,
        request: gr.Request,
    ) -> AsyncIterator[tuple[Any, ...]]:
        none = [gr.DownloadButton(value=None, visible=False)] * len(FORMATS)
        try:
            wanted = ScanWanted.checked(labels, presets, question, window, hop, least, merge, self._limits)
            upload = received(file, self._cache)
            async for step in self.scans.scan(upload, wanted, str(request.session_hash)):
                if isinstance(step, Coming):
                    yield parts.progress(step.share, step.text), "", "", *none
                else:
                    yield self._scanned(step, upload, wanted)
        except Exception as error:
            yield parts.fault(words(error)), "", "", *none

    def _scanned(self, scanned: Scanned, upload: Upload, wanted: ScanWanted) -> tuple[Any, ...]:
        speed = scanned.seconds / max(scanned.elapsed, 1e-3)
        told = (
            f"{len(scanned.events)} events in {scanned.windows} windows; {scanned.seconds:.1f} s of sound in "
            f"{scanned.elapsed:.1f} s, {speed:.0f} times real time"
        )
        rows = [
            (event.label, f"{event.start:.2f}", f"{event.end:.2f}", f"{event.score:.3f}", event.question)
            for event in scanned.events
        ]
        if not wanted.questions:
            rows = [row[:4] for row in rows]  # type: ignore[misc]
        columns = ("Label", "Start (s)", "End (s)", "Confidence", "Question")
        table = (
            parts.table(f"Events in {upload.name}", columns[: len(rows[0])], rows, numbers={1, 2, 3})
            if rows
            else parts.note("No events: lower the least confidence, or look for other labels.")
        )
        command = parts.command(wanted.command(upload.name, self._asker.model.name))
        return (
            parts.progress(1, told) + (parts.fault(scanned.trouble) if scanned.trouble else ""),
            scanned.picture,
            table + command,
            *(gr.DownloadButton(value=str(scanned.tables[kind]), visible=True) for kind in FORMATS),
        )

    async def _stop(self, request: gr.Request) -> None:
        self.scans.stop(str(request.session_hash))


async def in_words(make: Callable[[], Awaitable[str]]) -> str:
    """HTML, or the fault in its place."""
    try:
        return await make()
    except Exception as error:
        return parts.fault(words(error))


def words(error: Exception) -> str:
    """What is said of an error; of one that nobody foresaw, nothing but that the log knows it."""
    if isinstance(error, RequestFault):
        return str(error)
    log.error("the page could not do what it was asked", exc_info=error)
    if isinstance(error, NatureLMError):
        return "this could not be done; the server's log says why"
    return "the server failed at this; its log says how"


def _html(value: str = "", **kwargs: Any) -> gr.HTML:
    """A place for our own HTML, in our own style."""
    return gr.HTML(value, apply_default_css=False, **kwargs)


def _question(tab: str) -> gr.Textbox:
    """A question, with the usual ones to take."""
    question = gr.Textbox(
        label="Question", value=DETECTION_QUESTION, lines=1, max_lines=4, elem_id=f"{tab}-question"
    )
    usual = gr.Dropdown(
        [(text, PRESET_QUESTIONS[preset]) for preset, text in _PRESETS.items()],
        label="Usual questions",
        info="Fills in the wording that the model was trained with.",
        value=None,
        elem_id=f"{tab}-usual",
    )
    usual.input(_known_question, usual, question, show_progress="hidden", **_PRIVATE)
    return question


def _known_question(chosen: object) -> object:
    return chosen if chosen in PRESET_QUESTIONS.values() else gr.skip()


def _clear_on_change(clip: gr.Audio, result: gr.HTML) -> None:
    """The answer about an earlier clip goes, in the browser and at once: later, it might be that about the new one."""
    clip.change(None, None, result, js="() => ''", api_visibility="private")


def _answers(rows: list[Row]) -> str:
    cells = [
        (row.name, row.answer.text, f"{row.answer.probability:.3f}")
        if row.answer
        else (row.name, f"not answered: {row.error}")
        for row in rows
    ]
    return parts.table("Answers", ("File", "Answer", "Probability"), cells, numbers={2})


def _copied(found: list[Example], folder: Path) -> list[Example]:
    """Copies of the examples: gradio gives out what lies in the temporary folder, not what lies in a package."""
    folder.mkdir()
    return [Example(each.name, Path(shutil.copy(each.path, folder))) for each in found]
