"""Packages that a part needs and the rest does not."""

from collections.abc import Collection
from importlib.util import find_spec

from naturelm.errors import NatureLMError


def need_packages(extra: str, packages: Collection[str]) -> None:
    """NatureLMError, which names the extra to install, unless all packages are there. Imports none of them."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise NatureLMError(f"{', '.join(missing)}: not installed; run: pip install 'naturelm[{extra}]'")
