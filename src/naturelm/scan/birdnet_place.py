"""Where and when was recorded, as BirdNET's filter of species takes it."""

from dataclasses import dataclass

from naturelm.scan.options import ScanError


@dataclass(frozen=True)
class Place:
    """Where and when was recorded, to leave out what does not live there.

    latitude, longitude: degrees, north and east positive. week: of 48 in a year, four a month; None for all year.
    least: the frequency of occurrence that a species must have there to be looked for, 0 to 1.

    Raises ScanError.
    """

    latitude: float
    longitude: float
    week: int | None = None
    least: float = 0.03

    def __post_init__(self) -> None:
        if not (-90 <= self.latitude <= 90 and -180 <= self.longitude <= 180):
            raise ScanError(f"--lat, --lon: {self.latitude:g}, {self.longitude:g} is no place on Earth")
        if self.week is not None and not 1 <= self.week <= 48:
            raise ScanError(f"--week: 1 to 48, four a month, not {self.week}")
        if not 0 <= self.least <= 1:
            raise ScanError(f"--occurrence: between 0 and 1, not {self.least:g}")
