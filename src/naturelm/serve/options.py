"""What a server is told, as frozen records that are checked when they are made."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from naturelm.answer.results import GenerationOptions
from naturelm.model.registry import DEFAULT_MODEL
from naturelm.serve.faults import Fault, RequestFault, ServeError

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for; all is checked before the work is done.

    body_bytes: of a request. clip_seconds: of one decoded clip of a question, at most what the model takes.
    items: of one request to /predict. audios: clips of one question. question_chars, question_tokens: of one question.
    new_tokens, beams: of one answer. choices: labels of a closed set. recording_seconds: of a long recording on the web page.
    """

    body_bytes: int = 64 * MIB
    clip_seconds: float = 60.0
    items: int = 64
    audios: int = 8
    question_chars: int = 16_000
    question_tokens: int = 2_000
    new_tokens: int = 512
    beams: int = 8
    choices: int = 1_000
    recording_seconds: float = 3_600.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ServeError(f"{name.replace('_', '-')}: must be above 0, not {value}")


@dataclass(frozen=True)
class QueueOptions:
    """How questions wait and share batches.

    batch_size: questions answered together at most. queue_size: questions that may wait. request_seconds: from
    acceptance to answer. gather_seconds: that a first question waits for others to share its batch.
    """

    batch_size: int = 32
    queue_size: int = 256
    request_seconds: float = 120.0
    gather_seconds: float = 0.005

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.queue_size < 1:
            raise ServeError("batch-size and queue-size are at least 1")
        if not self.request_seconds > 0 or not self.gather_seconds >= 0:
            raise ServeError("request-seconds is above 0, and gather-seconds 0 or above")


@dataclass(frozen=True)
class Access:
    """Who may ask, and what a request may make the server read.

    api_key: None for none. folders: under which `file_path` may lie; none by default. url_hosts: that `file_url` may
    name, over https; none by default.
    """

    api_key: str | None = field(default=None, repr=False)
    folders: tuple[Path, ...] = ()
    url_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.api_key is not None and len(self.api_key) < 8:
            raise ServeError("the API key is shorter than 8 characters; take a longer one")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ServeError(
                "the API key has other characters than printable ASCII, which no header can hold"
            )
        for folder in self.folders:
            if not folder.is_dir():
                raise ServeError(f"--allow-dir {folder}: is not a folder")
        for host in self.url_hosts:
            if not host or any(sign in host for sign in "/:@?#* "):
                raise ServeError(
                    f"--allow-url-host {host!r}: give a host's name alone, such as data.example.org"
                )


@dataclass(frozen=True)
class ServeOptions:
    """A whole server.

    model, llm, device: as `NatureLM.from_pretrained` takes them. cache_mib: for what was heard. open_to_all: whether
    it may listen on other hosts than loopback without an API key. web: whether there is a page. log_content:
    whether questions and answers go to the log.
    """

    model: str = DEFAULT_MODEL
    llm: str | None = None
    device: str | None = None
    cache_mib: int = 512
    host: str = "127.0.0.1"
    port: int = 8000
    web: bool = False
    open_to_all: bool = False
    log_content: bool = False
    limits: Limits = field(default_factory=Limits)
    queue: QueueOptions = field(default_factory=QueueOptions)
    access: Access = field(default_factory=Access)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise ServeError(f"--port: from 0 to 65535, not {self.port}")
        if not self.is_loopback and self.access.api_key is None and not self.open_to_all:
            raise ServeError(
                f"--host {self.host}: others can reach this address, so give an API key (--api-key-file), or "
                "--no-api-key if everybody who reaches it may ask"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def check_options(options: GenerationOptions, choices: int, limits: Limits) -> None:
    """RequestFault where an answer is asked for that takes more than the limits allow."""
    if options.max_new_tokens > limits.new_tokens:
        raise RequestFault(
            Fault.TOO_LARGE, f"{options.max_new_tokens} tokens of answer; at most {limits.new_tokens}"
        )
    if options.num_beams > limits.beams:
        raise RequestFault(Fault.TOO_LARGE, f"{options.num_beams} beams; at most {limits.beams}")
    if abs(options.merging_alpha) > 10:
        raise RequestFault(Fault.INVALID, "merging_alpha: from -10 to 10; 1 is as trained")
    if not 0 <= options.seed < 2**63:
        raise RequestFault(Fault.INVALID, "seed: from 0 to 2^63 - 1")
    if choices > limits.choices:
        raise RequestFault(Fault.TOO_LARGE, f"{choices} choices; at most {limits.choices}")
