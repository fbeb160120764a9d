"""The peak memory of this process."""

import resource
import sys
from pathlib import Path


def peak_kb() -> int:
    """Most memory that was resident, kB. Not `ru_maxrss` where it can be helped: Linux counts the parent's in it."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
