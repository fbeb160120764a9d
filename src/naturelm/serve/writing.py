"""An answer while it is written, up to the text that is to stop it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from naturelm.serve.asking import Piece, Reply, Ticket


@dataclass(frozen=True)
class Token:
    """A token of an answer. log_prob: natural."""

    text: str
    log_prob: float


@dataclass(frozen=True)
class Delta:
    """Text that has come to an answer, and the tokens that brought it, where they are wanted."""

    text: str
    tokens: tuple[Token, ...] = ()


class StopFinder:
    """Lets text through until one of the stop texts is complete; what may be the beginning of one waits."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What can be told now that `text` has come."""
        if self.found:
            return ""
        self._held += text
        # The one that is complete first, and of two that end together the longer one, however the text comes in.
        ends = [(place + len(stop), place) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if ends:
            self.found = True
            return self._held[: min(ends)[1]]
        return self._told(len(self._held) - self._unsure())

    def rest(self) -> str:
        """What was held back, once nothing comes any more."""
        return "" if self.found else self._told(len(self._held))

    @property
    def holds(self) -> bool:
        """Whether some text waits."""
        return bool(self._held)

    def _told(self, length: int) -> str:
        told, self._held = self._held[:length], self._held[length:]
        return told

    def _unsure(self) -> int:
        """Length of the longest end of what is held that a stop text begins with."""
        longest = min(max((len(stop) for stop in self._stops), default=1) - 1, len(self._held))
        for length in range(longest, 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0


class Writing:
    """Follows one ticket, once.

    stopped: whether a stop text ended the answer. The token that ends an answer by itself is not among its tokens.
    """

    def __init__(self, ticket: Ticket, stops: Sequence[str], with_tokens: bool) -> None:
        self._ticket = ticket
        self._finder = StopFinder(stops)
        self._with_tokens = with_tokens
        # Where in the text each waiting token begins.
        self._tokens: list[tuple[int, Token]] = []
        self._come = 0
        self._told = 0

    @property
    def stopped(self) -> bool:
        return self._finder.found

    async def deltas(self) -> AsyncIterator[Delta]:
        """What is written, as it comes. Raises RequestFault. At a stop text the question is withdrawn."""
        held: Piece | None = None
        try:
            async for piece in self._ticket.pieces():
                if self._with_tokens and held is not None and not piece.token_text:
                    # What no token had told yet.
                    held = replace(held, text=held.text + piece.text)
                    continue
                # Only the next one tells whether this one ended the answer.
                ready, held = (held, piece) if self._with_tokens else (piece, None)
                if ready is not None and (delta := self._take(ready.text, ready)) is not None:
                    yield delta
                if self.stopped:
                    self._ticket.withdraw()
                    return
        except TimeoutError:
            pass  # the reply says so
        reply = await self._ticket.reply()
        if held is not None:
            delta = self._take(held.text, None if reply.answer.finished else held)
            if delta is not None:
                yield delta
        if not self.stopped and (self._finder.holds or self._tokens):
            yield Delta(self._finder.rest(), tuple(token for _, token in self._tokens))

    def _take(self, text: str, piece: Piece | None) -> Delta | None:
        if self.stopped:
            return None
        if piece is not None and self._with_tokens:
            self._tokens.append((self._come, Token(piece.token_text, piece.log_prob)))
        self._come += len(text)
        told = self._finder.push(text)
        self._told += len(told)
        if self.stopped:
            tokens = tuple(token for start, token in self._tokens if start < self._told)
        elif self._finder.holds:  # they are told with their text
            return Delta(told) if told else None
        else:
            tokens = tuple(token for _, token in self._tokens)
        self._tokens.clear()
        return Delta(told, tokens) if told or tokens else None


def written_tokens(reply: Reply) -> tuple[Token, ...]:
    """The tokens of a whole answer, without the one that ended it."""
    answer = reply.answer
    tokens = [
        Token(text, log_prob)
        for text, log_prob in zip(reply.token_texts, answer.token_log_probs, strict=True)
    ]
    return tuple(tokens[:-1] if answer.finished else tokens)
