"""Bounds of a corpus's options, checked as soon as an option is given: the error names the key and what it may be."""

from naturelm.errors import NatureLMError
from naturelm.settings import Limits, SettingError


class CorpusError(NatureLMError):
    """A corpus that cannot be built, opened or used as asked; names the file or key, and the cure."""


class OptionError(CorpusError, SettingError):
    """An option out of its bounds."""


_LIMITS = Limits(OptionError)
require = _LIMITS.require
require_name = _LIMITS.require_name
require_positive = _LIMITS.require_positive
require_range = _LIMITS.require_range
require_share = _LIMITS.require_share
