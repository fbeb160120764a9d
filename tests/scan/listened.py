"""BirdNET over one recording in a process of its own, whose peak memory (kB) it prints. Arguments: PATH OUT LABEL..."""

import sys
from pathlib import Path

from memory import peak_kb

from naturelm.scan.birdnet_listener import BirdNetListener
from naturelm.scan.finding import find_recordings
from naturelm.scan.options import CutOptions, parse_labels
from naturelm.scan.run import scan_recordings

listener = BirdNetListener(parse_labels(tuple(sys.argv[3:])))
report = scan_recordings(find_recordings([Path(sys.argv[1])]), listener, CutOptions(3.0), Path(sys.argv[2]))
assert report.complete and not report.failed
print(peak_kb())
