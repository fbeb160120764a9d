"""Errors that users see: one line that names the input and the cure.

Everything that a user can cause derives from `NatureLMError`, so a caller that
works through many recordings catches one class, notes the row and goes on.
"""


class NatureLMError(Exception):
    """Something the user can mend; its text is one line naming the input and the cure."""


class AudioError(NatureLMError):
    """A recording that cannot be read or used: missing, damaged, silent, too short or too long."""


class CheckpointError(NatureLMError):
    """A model that cannot be found or loaded: gated, damaged, unsafe, or with the wrong tensors."""


class QuestionError(NatureLMError):
    """A question, list of choices or option that cannot be used."""
