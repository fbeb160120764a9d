"""When a recording was made: from its name or its header, as recorders of wildlife write them.

Names: `20240131_053000.WAV` (AudioMoth), `5E90A4D4.WAV` (first AudioMoths: seconds since 1970 in hexadecimal),
`SITE_20240131_053000.wav`, `SITE_0+1_20240131_053000.wav` and, where a sound set it off, `SITE_20240131$053000.wav` (Song
Meter), `5678.240131053000.wav` (SoundTrap), `2024-01-31T05:30:00Z`, `2024-01-31_05-30-00`, `20240131T053000+0100` (BAR)
and their like. Headers: AudioMoth's comment, GUANO, Broadcast Wave.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from naturelm.scan.options import ScanError

_STAMP = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<dash>[-.]?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"[ T_$-]?"
    r"(?P<hour>\d\d)(?P<colon>[-:.]?)(?P<minute>\d\d)(?P=colon)(?P<second>\d\d)(?!\d)"
    r"(?:[.,]\d+)?(?P<zone>Z|[+-]\d\d:?\d\d)?(?!\d)"
)
_SOUNDTRAP = re.compile(
    r"\d{3,}\.(?P<year>\d\d)(?P<month>\d\d)(?P<day>\d\d)(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)"
)
_HEXADECIMAL = re.compile(r"[0-9A-F]{8}")
_AUDIOMOTH = re.compile(
    r"Recorded at (\d\d):(\d\d):(\d\d)(?:\.\d+)? (\d\d)/(\d\d)/(\d{4}) \(UTC(?P<zone>[+-]\d{1,2}(?::\d\d)?)?\)"
)
_OFFSET = re.compile(r"(?:UTC)?(?P<sign>[+-])(?P<hours>\d{1,2}):?(?P<minutes>\d\d)?")
_MOST_CHUNKS = 64
_MOST_TEXT = 65_536


def parse_time_zone(name: str) -> tzinfo:
    """`UTC`, `Europe/Berlin`, `+02:00`. ScanError for anything else."""
    if name.upper() in {"UTC", "Z"}:
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset is not None:
        away = timedelta(hours=int(offset["hours"]), minutes=int(offset["minutes"] or 0))
        if away < timedelta(hours=24):
            return timezone(away if offset["sign"] == "+" else -away)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScanError(
            f"--time-zone: {name!r} is not known; give UTC, +02:00 or a name such as Europe/Berlin"
        ) from error


def recording_start(name: str, header: str, zone: tzinfo | None) -> datetime | None:
    """When a recording begins.

    name: of its file. header: what its header says, ISO 8601, or "". zone: of stamps that state none themselves,
    and of the result; None leaves both as they are stated.

    The name comes first, since a header's clock is often what the name was made of, with less said. A stamp in the
    name without a zone takes over that of a header that says the same time. None where neither tells.
    """
    stated = datetime.fromisoformat(header) if header else None
    found = _from_name(name)
    if found is None or (
        found.tzinfo is None and stated is not None and stated.replace(tzinfo=None) == found
    ):
        found = stated
    if found is None:
        return None
    if found.tzinfo is None:
        return found if zone is None else found.replace(tzinfo=zone)
    return found if zone is None else found.astimezone(zone)


def moment(start: datetime | None, seconds: float) -> datetime | None:
    """So many seconds later, on the clock that people saw: across a change to summer time too."""
    if start is None:
        return None
    if start.tzinfo is None:
        return start + timedelta(seconds=seconds)
    return (start.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(start.tzinfo)


def _from_name(name: str) -> datetime | None:
    stem = Path(name).stem
    for match in _STAMP.finditer(stem):
        time = _time_of(match)
        if time is not None:
            return time
    soundtrap = _SOUNDTRAP.fullmatch(stem)
    if soundtrap is not None:
        return _time_of(soundtrap)
    if _HEXADECIMAL.fullmatch(stem.upper()):
        seconds = int(stem, 16)
        # AudioMoths exist since 2017; a number beyond 2030 is somebody's serial number.
        if 1_483_228_800 <= seconds <= 1_893_456_000:
            return datetime.fromtimestamp(seconds, UTC)
    return None


def _time_of(match: re.Match[str]) -> datetime | None:
    parts = [int(match[part]) for part in ("year", "month", "day", "hour", "minute", "second")]
    if parts[0] < 100:
        parts[0] += 2000
    try:
        time = datetime(*parts)  # type: ignore[arg-type]
    except ValueError:
        return None
    zone = match.groupdict().get("zone")
    return time if zone is None else time.replace(tzinfo=parse_time_zone(zone))


def header_time(path: Path) -> str:
    """When a WAV file's header says that it was recorded, ISO 8601; "" where it says nothing or is no WAV."""
    try:
        for name, content in _chunks(path):
            time = _chunk_time(name, content)
            if time is not None:
                return time.isoformat()
    except (OSError, ValueError, OverflowError, ScanError):
        return ""
    return ""


def _chunk_time(name: bytes, content: bytes) -> datetime | None:
    text = content.decode("utf-8", errors="replace")
    if name == b"LIST":
        match = _AUDIOMOTH.search(text)
        if match is None:
            return None
        hour, minute, second, day, month, year = (int(match[number]) for number in range(1, 7))
        zone = parse_time_zone(match["zone"]) if match["zone"] else UTC
        return datetime(year, month, day, hour, minute, second, tzinfo=zone)
    if name == b"guan":
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Timestamp":
                found = _STAMP.search(value)
                return None if found is None else _time_of(found)
    if name == b"bext" and len(content) >= 338:
        # Broadcast Wave: the date at byte 320, ten characters, then the time, eight.
        found = _STAMP.search(content[320:338].decode("ascii", errors="replace").replace("\0", ""))
        return None if found is None else _time_of(found)
    return None


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Chunks of a WAV file that may say a time, before and behind its sound, their first 64 kB."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        place = 12
        for _ in range(_MOST_CHUNKS):
            file.seek(place)
            chunk = file.read(8)
            if len(chunk) < 8 or place > size:
                return
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] in {b"LIST", b"guan", b"bext"}:
                yield chunk[:4], file.read(min(length, _MOST_TEXT))
            place += 8 + length + length % 2
