"""Options that the commands about scans share. Nothing here loads more than the command line."""

from typing import Annotated

import typer

PACKAGES = ("matplotlib", "pyarrow", "pydantic", "scipy", "yaml")
MinConfidence = Annotated[
    float | None,
    typer.Option(help="Least score of an event, 0 to 1; default: 0.25 for labels, any for answers."),
]
Top = Annotated[int | None, typer.Option(help="At most so many labels of a window, the highest.")]
Merge = Annotated[bool, typer.Option("--merge", help="Join neighbouring windows of one label.")]
Gap = Annotated[float, typer.Option("--merge-gap", help="Join those up to so many seconds apart, too.")]
LeastSeconds = Annotated[float, typer.Option("--min-length", help="Drop events shorter than this, s.")]
TimeZone = Annotated[
    str | None,
    typer.Option(help="Of time stamps that state none, and of the tables: UTC, +02:00, Europe/Berlin."),
]
Clips = Annotated[int, typer.Option(min=0, help="Write the best so many clips of each label.")]
Html = Annotated[bool, typer.Option("--html", help="Write a page with heat maps and the best events.")]
Relative = Annotated[
    bool,
    typer.Option("--relative-paths", help="Tables give recordings by their path below the searched folder."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
