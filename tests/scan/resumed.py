"""A scan in a process of its own, to be killed, in groups of two. Arguments: PATH OUT SECONDS_A_BATCH [peak]."""

import sys
import time
from pathlib import Path

from memory import peak_kb
from scanning import PAIR_BYTES, ToneListener

from naturelm.errors import NatureLMError
from naturelm.scan import run
from naturelm.scan.export import ExportOptions, export
from naturelm.scan.finding import find_recordings, grouped
from naturelm.scan.names import Format
from naturelm.scan.options import CutOptions


class SlowListener(ToneListener):
    """Takes its time, says when it begins, and waits as long as there is a file `hold` beside the results."""

    def listen(self, windows):  # type: ignore[no-untyped-def]
        if not self.batches:
            print("listening", flush=True)
        time.sleep(float(sys.argv[3]))
        while out.with_name("hold").exists():
            time.sleep(0.02)
        return super().listen(windows)


path, out = Path(sys.argv[1]), Path(sys.argv[2])
peak = sys.argv[4:] == ["peak"]
listener = ToneListener() if peak else SlowListener(alike=False, batch_size=3)
run.grouped = lambda found: grouped(found, PAIR_BYTES)
try:
    run.scan_recordings(find_recordings([path], without=out), listener, CutOptions(3.0), out)
except NatureLMError as error:
    sys.exit(str(error))
export(out, ExportOptions(formats=tuple(Format)))
if peak:
    print(peak_kb())
