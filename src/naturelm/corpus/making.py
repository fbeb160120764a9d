"""Fourth stage of a build, in worker processes: pairs are made from recordings, and shards written."""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.cast import Cast, is_invented
from naturelm.corpus.library import Entry, Library
from naturelm.corpus.options import BuildOptions, Share
from naturelm.corpus.plan import Job, share_seed, task_called
from naturelm.corpus.recordings import Failure
from naturelm.corpus.scene import Placed, UnreadableRecording, UnusablePair
from naturelm.corpus.schema import Pair
from naturelm.corpus.storage import encode_flac, write_shard, write_text
from naturelm.corpus.tasks import Draft, Studio

AUDIO_PLACE = "<Audio><AudioHere></Audio> "


def begin_worker() -> None:
    """Start of a worker process: quiet, and ended when the parent has been killed, which cannot say goodbye."""
    # libmpg123 complains of odd MP3 tags straight to the terminal, at every reading of the file.
    own = os.fdopen(os.dup(2), "w", buffering=1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    sys.stderr = own
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Maker:
    """Makes the pairs of one build."""

    def __init__(self, options: BuildOptions, library: Library) -> None:
        self._options = options
        self._library = library
        self._casts: dict[str, Cast] = {}

    @classmethod
    @lru_cache(maxsize=1)
    def of(cls, options: BuildOptions, library: Path) -> "Maker":
        """The maker of a worker process, made when it is first used there."""
        return cls(options, Library(library))

    def pair(self, job: Job) -> tuple[Pair | None, list[Failure]]:
        """The pair of a job; where its recording cannot be used, of another, and why."""
        share = self._options.shares[job.share]
        failures = []
        for attempt, row in enumerate(job.rows):
            rng = np.random.default_rng([*share_seed(self._options, share), job.number, attempt])
            entry = self._library[row]
            try:
                draft = task_called(share.task).make(entry, self._studio(share), rng)
            except UnusablePair:
                continue  # no fault of the recording's: it does not suit this pair
            except UnreadableRecording as error:
                recording = error.entry.recording
                failures.append(Failure(recording.source, recording.file_name, str(error)))
                continue
            return self._stored(draft, entry, share, job), failures
        cause = f"no pair of {share.task} could be made in {len(job.rows)} attempts; is there enough to draw from?"
        failures.append(Failure(share.split, share.dataset_name or share.task, cause))
        return None, failures

    def _studio(self, share: Share) -> Studio:
        split = share.split
        if split not in self._casts:
            self._casts[split] = Cast(self._library, split)
        scenes = self._options.scenes(split)
        if share.seconds is not None:
            scenes = replace(scenes, seconds=share.seconds, shortest=min(scenes.shortest, share.seconds))
        if share.plain:
            untouched = replace(scenes.augment, probability=0.0, noise_probability=0.0)
            scenes = replace(scenes, padding=0.0, augment=untouched)
        return Studio(self._casts[split], scenes, first_wording=split == "test")

    def _stored(self, draft: Draft, entry: Entry, share: Share, job: Job) -> Pair:
        identifier = f"{self._options.name}-{share.name.replace('/', '-')}-{job.number:06d}"
        heard = draft.scene.entries
        taxa = dict.fromkeys(taxon.scientific_name for other in heard for taxon in other.all_taxa)
        # A silent clip is nobody's recording.
        sources = dict.fromkeys(other.recording.source for other in heard) or {"silence": None}
        licenses = dict.fromkeys(other.recording.license for other in heard) or {"CC0-1.0": None}
        return Pair(
            id=identifier,
            audio=encode_flac(draft.scene.samples),
            file_name=f"{identifier}.flac",
            dataset_name=share.dataset_name or share.task,
            source_dataset="+".join(sources),
            task=share.task,
            instruction=AUDIO_PLACE + draft.instruction,
            instruction_text=draft.instruction,
            output=draft.output,
            options=draft.options,
            labels=draft.labels,
            taxa=tuple(taxa),
            recordings=tuple(other.key for other in heard),
            source_files=tuple(f"{other.recording.source}:{other.recording.file_name}" for other in heard),
            groups=tuple(other.group for other in heard),
            recordists=tuple(other.recording.recordist for other in heard),
            license=" + ".join(licenses),
            created_at=self._options.created_at,
            split=share.split,
            duration=len(draft.scene.samples) / SAMPLE_RATE,
            metadata=json.dumps(_details(draft, entry), ensure_ascii=False, sort_keys=True),
        )


def _details(draft: Draft, entry: Entry) -> dict[str, object]:
    scene = draft.scene
    details: dict[str, object] = {
        "sample_rate": SAMPLE_RATE,
        "novelty": entry.novelty,
        "invented": is_invented(entry),
        "parts": [_part(part) for part in scene.placed],
        **draft.details,
    }
    if scene.noise is not None:
        details["noise"] = scene.noise.key
    if scene.snr_db is not None:
        details["snr_db"] = round(scene.snr_db, 1)
    return details


def _part(part: Placed) -> dict[str, object]:
    recording = part.entry.recording
    known = {
        "call_types": list(recording.call_types),
        "life_stage": recording.life_stage,
        "sex": recording.sex,
        "region": recording.region,
        "date": recording.date,
        "url": recording.url,
        "changes": list(part.changes),
    }
    times = {"start": round(part.start, 3), "end": round(part.end, 3), "crop": round(part.crop, 3)}
    return {"recording": part.entry.key, **times, **{name: value for name, value in known.items() if value}}


def make_shard(options: BuildOptions, library: Path, jobs: Sequence[Job], path: Path, notes: Path) -> None:
    """Make the pairs of a shard and write them, with what failed beside them in `notes`."""
    maker = Maker.of(options, library)
    pairs, failures = [], []
    for job in jobs:
        pair, failed = maker.pair(job)
        failures.extend(failed)
        if pair is not None:
            pairs.append(pair)
    # Notes first: a shard that is there is finished, with its notes.
    write_text(notes, json.dumps([asdict(failure) for failure in failures]))
    write_shard(pairs, path)
