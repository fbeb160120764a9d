"""Which engine a scan uses, as plain options that can go to another process, and the engine made of them."""

from dataclasses import dataclass

from naturelm.scan.birdnet_place import Place
from naturelm.scan.listening import Listener
from naturelm.scan.options import Label, ScanError

BIRDNET = "birdnet"


@dataclass(frozen=True)
class EngineOptions:
    """An engine and what it is asked.

    model: `birdnet`, or whatever `NatureLM.from_pretrained` takes, with llm and device. labels: what to look for.
    questions: to be answered freely; max_new_tokens: the longest answer. place, floor: of BirdNET alone, see there.

    Raises ScanError where an engine cannot do what it is asked.
    """

    model: str
    labels: tuple[Label, ...] = ()
    questions: tuple[str, ...] = ()
    llm: str | None = None
    device: str | None = None
    max_new_tokens: int = 64
    place: Place | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        if self.model == BIRDNET:
            if self.questions:
                raise ScanError(
                    "--ask, --preset: BirdNET answers no questions; use --detect or --labels, or another --model"
                )
        elif self.place is not None or self.floor is not None:
            raise ScanError("--lat, --lon, --week, --floor: are for --model birdnet alone; leave them out")
        elif not self.labels and not self.questions:
            raise ScanError("nothing to look for: give --detect, --labels, --ask or --preset")

    def open(self) -> Listener:
        """The engine, loaded. Raises ScanError, CheckpointError."""
        if self.model == BIRDNET:
            from naturelm.scan.birdnet_listener import DEFAULT_FLOOR, BirdNetListener

            return BirdNetListener(
                self.labels, self.place, DEFAULT_FLOOR if self.floor is None else self.floor
            )
        from naturelm.answer.engine import NatureLM
        from naturelm.answer.results import GenerationOptions
        from naturelm.scan.naturelm_listener import NatureLMListener

        model = NatureLM.from_pretrained(self.model, llm=self.llm, device=self.device)
        options = GenerationOptions(max_new_tokens=self.max_new_tokens)
        return NatureLMListener(model, self.labels, self.questions, options)
