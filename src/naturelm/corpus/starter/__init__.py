"""The starter corpus: built from package registries alone, on any Debian machine, in minutes.

Real animals and everyday sounds that packages carry, speech by espeak-ng, notes by FluidSynth, made
noise, and the synthetic fauna. docs/corpus.md says what it is good for, and what not.
"""

from pathlib import Path

from naturelm.corpus.options import BuildOptions
from naturelm.corpus.starter.fauna_source import FaunaSource
from naturelm.corpus.starter.music import MusicSource
from naturelm.corpus.starter.noise import NoiseSource
from naturelm.corpus.starter.packages import RECORDED, SOUNDFONT, check_programs, unpacked
from naturelm.corpus.starter.recipe import SHARES, SPLITS, TEST_SCENES, TRAIN_SCENES
from naturelm.corpus.starter.recorded import RecordedSource
from naturelm.corpus.starter.speech import SpeechSource
from naturelm.model.embedded import cache_folder

NAME = "starter"
_SPECIES = 2000
_NOISES = 60


def starter_options(*, seed: int = 0, cache: Path | None = None) -> BuildOptions:
    """Options of the starter corpus; fetches the packages on the first call.

    cache: where packages, speech and music are kept; the package's own cache folder when None.
    Raises CorpusError, saying what to install or run, when a package or program cannot be had.
    """
    folder = (cache_folder() if cache is None else cache) / "starter"
    check_programs()
    soundfont = unpacked(SOUNDFONT, folder) / "usr/share/sounds/sf2/FluidR3_GM.sf2"
    recorded = tuple((package.name, unpacked(package, folder)) for package in RECORDED)
    return BuildOptions(
        name=NAME,
        sources=(
            RecordedSource(recorded),
            FaunaSource(_SPECIES, seed),
            NoiseSource(_NOISES),
            SpeechSource(folder / "speech", seed),
            MusicSource(soundfont, folder / "music", seed),
        ),
        shares=SHARES,
        seed=seed,
        splits=SPLITS,
        train_scenes=TRAIN_SCENES,
        test_scenes=TEST_SCENES,
    )
