"""Pieces of HTML that the page is made of. All that comes from outside, answers of the model too, is escaped here."""

from collections.abc import Collection, Sequence
from html import escape

from naturelm.answer.results import Answer, Choice

_SHOWN_CHOICES = 30
_SHOWN_ROWS = 500


def fault(text: str) -> str:
    """Why something could not be done, in words; screen readers say it at once."""
    return f'<div class="fault" role="alert">{escape(text)}</div>'


def note(text: str) -> str:
    """Something to know."""
    return f'<p class="note">{escape(text)}</p>'


def answer(given: Answer) -> str:
    """A free answer with its probability."""
    said = given.text or "(the model gave an empty answer)"
    cut = "" if given.finished else " The answer was cut off at its longest."
    return (
        f'<div class="answer" role="status"><p class="said">{escape(said)}</p>'
        f'<p class="note">Probability <b>{given.probability:.3f}</b> that the model writes exactly this. '
        f"{_heard(given)}{cut}</p></div>"
    )


def choices(given: Answer) -> str:
    """A closed set as a bar chart, likeliest first."""
    shown = given.choices[:_SHOWN_CHOICES]
    rest = given.choices[_SHOWN_CHOICES:]
    bars = "".join(map(_bar, shown))
    more = (
        note(f"and {len(rest)} more, {sum(c.probability for c in rest):.3f} together, each less likely")
        if rest
        else ""
    )
    return (
        f'<div class="answer" role="status"><p class="said">{escape(given.text)}</p>'
        f'<p class="note">Probability <b>{given.probability:.3f}</b> among the labels given. {_heard(given)}</p>'
        '<table class="bars"><caption>Probability of each label</caption><tbody>'
        f"{bars}</tbody></table>{more}</div>"
    )


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[int] = ()
) -> str:
    """Rows of text, at most so many as a page can bear. numbers: the places of columns of numbers.

    The last cell of a row that is short goes over the columns that it lacks.
    """
    head = "".join(
        f'<th scope="col"{_side(i, numbers)}>{escape(name)}</th>' for i, name in enumerate(columns)
    )
    body = "".join(_row(row, len(columns), numbers) for row in rows[:_SHOWN_ROWS])
    more = (
        note(f"{len(rows) - _SHOWN_ROWS} more rows are in the downloads.") if len(rows) > _SHOWN_ROWS else ""
    )
    return (
        f'<div class="rows" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}"
    )


def progress(share: float, text: str) -> str:
    """How far something has come; share: from 0 to 1."""
    percent = round(100 * min(max(share, 0.0), 1.0))
    return (
        f'<div class="progress" role="status"><progress max="100" value="{percent}" aria-label="{escape(text)}">'
        f"</progress><span>{escape(text)}</span></div>"
    )


def command(written: str) -> str:
    """A command line that does the same."""
    return (
        "<details><summary>The same on the command line</summary>"
        f'<pre class="command" tabindex="0">{escape(written)}</pre></details>'
    )


def _heard(given: Answer) -> str:
    return f"{escape(given.recording)}, {given.end - given.start:.1f} s; model {escape(given.model)}."


def _bar(choice: Choice) -> str:
    width = f"{100 * choice.probability:.2f}%"
    return (
        f'<tr><th scope="row">{escape(choice.label)}</th><td class="bar"><div><span style="width: {width}"></span></div></td>'
        f'<td class="number">{choice.probability:.3f}</td></tr>'
    )


def _row(cells: Sequence[str], columns: int, numbers: Collection[int]) -> str:
    inner = "".join(f"<td{_side(i, numbers)}>{escape(cell)}</td>" for i, cell in enumerate(cells[:-1]))
    last, missing = len(cells) - 1, columns - len(cells)
    over = f' colspan="{missing + 1}"' if missing else ""
    return f"<tr>{inner}<td{_side(last, numbers)}{over}>{escape(cells[-1])}</td></tr>"


def _side(column: int, numbers: Collection[int]) -> str:
    return ' class="number"' if column in numbers else ""
