"""One HTML page about a scan: when each label was found, and its best events to see and to hear.

The page needs nothing from elsewhere and runs no code. Labels, answers and paths come from outside, and are escaped
wherever they stand.
"""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import soundfile as sf

from naturelm.corpus.storage import write_text
from naturelm.errors import AudioError
from naturelm.scan.best import Best, BestEvents
from naturelm.scan.clips import event_samples

_MOST_LABELS = 60
_MOST_DAYS = 400
_LONGEST_CLIP = 10.0  # s
_PLAYED_RATE = 24_000  # Hz; enough to recognise most animals by, and small
_CELL = 14
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1060px; margin: 2em auto; padding: 0 1.2em; }
h2 { font-size: 1.15em; margin: 2.2em 0 0.3em; } .note { color: #555; }
.events { display: flex; flex-wrap: wrap; gap: 1em; } figure { margin: 0; width: 320px; }
figure img, audio { width: 100%; } figcaption { font-size: 0.85em; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td { padding: 0.1em 0.9em 0.1em 0; }
"""


def write_page(best: BestEvents, folder: Path, parameters: Mapping[str, Any], shown: int) -> Path:
    """Write `index.html` into `folder`, whole or not at all; shown: events of each label. Returns its path."""
    out = folder / "index.html"
    write_text(out, "\n".join(_page(best, folder, parameters, shown)))
    return out


def _page(best: BestEvents, folder: Path, parameters: Mapping[str, Any], shown: int) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; media-src data:; '
    yield "style-src 'unsafe-inline'\">"
    yield f"<title>Scan {escape(folder.name)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f"<h1>Scan {escape(folder.name)}</h1>"
    yield f'<p class="note">{escape(str(parameters.get("model", "")))}, windows of {parameters["window"]:g} s.</p>'
    labels = [label for label, _ in best.counts.most_common(_MOST_LABELS)]
    if not labels:
        yield "<p>No events: lower --min-confidence, and export again.</p>"
    yield "<table>"
    yield from (f"<tr><td>{escape(label)}</td><td>{best.counts[label]:,}</td></tr>" for label in labels)
    yield "</table>"
    if len(best.counts) > len(labels):
        yield f'<p class="note">and {len(best.counts) - len(labels)} more labels.</p>'
    top = best.top(shown)
    for label in labels:
        yield f"<h2>{escape(label)}</h2>"
        hours = best.hours.get(label)
        if hours:
            yield _heat_map(hours)
        else:
            yield '<p class="note">When the recordings were made is not known from their names or headers.</p>'
        yield '<div class="events">'
        yield from (_figure(each) for each in top.get(label, ()))
        yield "</div>"
    yield "</body>\n</html>\n"


def _heat_map(hours: Counter[tuple[str, int]]) -> str:
    """Days to the right, hours downwards, darker where more events begin."""
    days = sorted({day for day, _ in hours})[-_MOST_DAYS:]
    most = max(hours.values())
    left, above = 34, 16
    width, height = left + len(days) * _CELL + 70, above + 24 * _CELL + 4
    parts = [f'<svg width="{width}" height="{height}" role="img" font-size="10" font-family="sans-serif">']
    for hour in range(0, 24, 6):
        parts.append(f'<text x="0" y="{above + hour * _CELL + 10}">{hour:02d}:00</text>')
    for column, day in enumerate(days):
        x = left + column * _CELL
        if column % 7 == 0:
            parts.append(f'<text x="{x}" y="10">{day}</text>')
        for hour in range(24):
            number = hours.get((day, hour), 0)
            shade = (
                f'rgb(27,108,168)" fill-opacity="{0.15 + 0.85 * number / most:.2f}' if number else "#f2f2f2"
            )
            parts.append(
                f'<rect x="{x}" y="{above + hour * _CELL}" width="{_CELL - 1}" height="{_CELL - 1}" fill="{shade}">'
                f"<title>{day} {hour:02d}:00: {number}</title></rect>"
            )
    return "".join([*parts, "</svg>"])


def _figure(best: Best) -> str:
    event = best.event
    time = best.scene.time(event.start)
    caption = f"{event.score:.2f}, {event.start:.1f} to {event.end:.1f} s, {event.recording}" + (
        f", {time}" if time else ""
    )
    try:
        rate = min(best.scene.facts.sample_rate, _PLAYED_RATE)
        samples = event_samples(best, sample_rate=rate, longest=_LONGEST_CLIP)
        picture = _picture(samples, rate)
    except AudioError as error:
        return f"<figure><figcaption>{escape(caption)}: {escape(str(error))}</figcaption></figure>"
    sound = io.BytesIO()
    sf.write(sound, samples, rate, format="WAV", subtype="PCM_16")
    return (
        f'<figure><img alt="spectrogram" src="{_data("image/png", picture)}">'
        f'<audio controls preload="none" src="{_data("audio/wav", sound.getvalue())}"></audio>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _picture(samples: Any, rate: int) -> bytes:
    from matplotlib.figure import Figure

    from naturelm.corpus.spectrogram import draw_spectrogram, spectrogram

    figure = Figure(figsize=(4, 2.2), dpi=80, layout="constrained")
    draw_spectrogram(figure.subplots(), spectrogram(samples, rate))
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
