"""What a command says when it cannot do what is asked."""

from importlib.util import find_spec


class Refused(Exception):
    """A command cannot do what is asked; its text says why, and what to do."""


def need(extra: str, *modules: str) -> None:
    """Refuse if one of these modules, which an extra installs, is not there."""
    for name in modules:
        if find_spec(name) is None:
            raise Refused(f"{name} is not installed: pip install 'fastoptim[{extra}]'")
