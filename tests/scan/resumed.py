"""A scan in a process of its own, to be killed. Arguments: PATH OUT SECONDS_A_BATCH [peak]."""

import resource
import sys
import time
from pathlib import Path

from scanning import ToneListener

from naturelm.scan.export import ExportOptions, export
from naturelm.scan.finding import find_recordings
from naturelm.scan.names import Format
from naturelm.scan.options import CutOptions
from naturelm.scan.run import scan_recordings


class SlowListener(ToneListener):
    """Takes its time, and says when it begins."""

    def listen(self, windows):  # type: ignore[no-untyped-def]
        if not self.batches:
            print("listening", flush=True)
        time.sleep(float(sys.argv[3]))
        return super().listen(windows)


path, out = Path(sys.argv[1]), Path(sys.argv[2])
peak = sys.argv[4:] == ["peak"]
listener = ToneListener() if peak else SlowListener(alike=False, batch_size=3)
scan_recordings(find_recordings([path], without=out), listener, CutOptions(3.0), out)
export(out, ExportOptions(formats=tuple(Format)))
if peak:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
