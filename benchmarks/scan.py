"""`naturelm scan` against a plain loop over windows and labels, and BirdNET in times real time."""

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from closed_set import LABELS, label_by_label
from common import RATE, alternate, arguments, print_machine

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Clip, Query
from naturelm.audio import WindowSpec, iter_windows
from naturelm.model.birdnet_files import GRAPH_FILE, birdnet_folder, birdnet_ready
from naturelm.model.birdnet_graph import WINDOW_SAMPLES
from naturelm.scan.birdnet_listener import BirdNetListener
from naturelm.scan.finding import find_recordings
from naturelm.scan.listening import Listener
from naturelm.scan.naturelm_listener import NatureLMListener
from naturelm.scan.options import DETECTION_QUESTION, CutOptions, parse_labels
from naturelm.scan.run import scan_recordings

DETECTED = LABELS[:20]


def make_recordings(folder: Path, count: int, seconds: float, rate: int) -> None:
    """Noise, as FLAC, so that decoding counts as it does in the field."""
    folder.mkdir()
    for number in range(count):
        sound = np.random.default_rng(number).standard_normal(round(seconds * rate)) * 0.1
        sf.write(folder / f"{number}.flac", sound.clip(-1, 1), rate)


def scan(recordings: Path, listener: Listener, window: float) -> None:
    with tempfile.TemporaryDirectory() as out:
        scan_recordings(find_recordings([recordings]), listener, CutOptions(window), Path(out))


def plain_loop(recordings: Path, naturelm: NatureLM, window: float, *, hear_once: bool) -> None:
    """One file, one window, one label at a time."""
    for path in sorted(recordings.iterdir()):
        for each in iter_windows(path, WindowSpec(window), sample_rate=naturelm.sampling_rate):
            query = Query((Clip(each.samples),), DETECTION_QUESTION, DETECTED)
            heard = None
            if hear_once:
                batch = naturelm.processor.feature_extractor([each.samples])
                with torch.no_grad():
                    heard = naturelm.model.get_audio_features(
                        batch["input_values"], batch["input_features_mask"]
                    )
            label_by_label(naturelm, query, heard)


def bare_birdnet(recordings: Path) -> None:
    """BirdNET's own file, one window after the other on one thread, and nothing around it but reading the sound."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(birdnet_folder() / GRAPH_FILE), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
    for path in sorted(recordings.iterdir()):
        samples, _ = sf.read(path, dtype="float32")
        for window in samples.reshape(-1, WINDOW_SAMPLES):
            interpreter.set_tensor(given["index"], window[None])
            interpreter.invoke()
            interpreter.get_tensor(scores["index"])


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--windows", type=int, default=8, help="of each of two recordings")
    parser.add_argument("--minutes", type=float, default=10.0, help="of sound that BirdNET listens to")
    parser.add_argument("--target", type=float, default=5.0, help="least ratio; exit 1 below it")
    parser.add_argument(
        "--birdnet-target", type=float, default=45.0, help="least times real time; exit 1 below it"
    )
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print_machine()
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        naturelm = NatureLM.from_pretrained(options.model)
        if options.merge_lora:
            naturelm.model.merge_lora()
        window = float(naturelm.model.config.clip_seconds)
        recordings = Path(folder) / "recordings"
        make_recordings(recordings, 2, options.windows * window, RATE)
        listener = NatureLMListener(naturelm, parse_labels(DETECTED))
        seconds = 2 * options.windows * window
        print(f"{options.model}, {len(DETECTED)} labels, {2 * options.windows} windows of {window:g} s:")
        fast, once, naive = alternate(
            {
                "scan": lambda: scan(recordings, listener, window),
                "loop, each window heard once": lambda: plain_loop(
                    recordings, naturelm, window, hear_once=True
                ),
                "loop, heard for each label": lambda: plain_loop(
                    recordings, naturelm, window, hear_once=False
                ),
            },
            options.repeats,
        )
        print(f"scan: {2 * options.windows / fast.wall:.2f} windows/s, {seconds / fast.wall:.1f}x real time")
        print(f"ratio to the loop that hears once {once.ratio(fast)}")
        print(f"ratio to the plain loop {naive.ratio(fast)} (target {options.target:g})")
        missed = naive.wall / fast.wall < options.target
        if birdnet_ready() and find_spec("ai_edge_litert"):
            field = Path(folder) / "field"
            make_recordings(field, 2, 30 * options.minutes, 48_000)
            bird = BirdNetListener()
            bird.listen(bird.prepare([np.ones(10, np.float32)]))  # opened
            print(f"BirdNET, all labels, {options.minutes:g} min at 48 kHz, one thread:")
            timing, bare = alternate(
                {"scan": lambda: scan(field, bird, 3.0), "the file alone": lambda: bare_birdnet(field)}, 1
            )
            speed, by_cpu = 60 * options.minutes / timing.wall, 60 * options.minutes / timing.cpu
            print(
                f"{speed:.0f}x real time by the clock, {by_cpu:.0f}x by CPU time (target {options.birdnet_target:g})"
            )
            print(
                f"time of BirdNET's file alone, sound in memory, as a share of the scan's {bare.ratio(timing)}"
            )
            missed = missed or max(speed, by_cpu) < options.birdnet_target
        else:
            print("BirdNET is not here: naturelm models fetch birdnet")
    sys.exit(missed)


if __name__ == "__main__":
    main()
