"""The Lua scripts, each with the generated tables, the prelude and the outbox at its head."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from ledger import version
from ledger.keys import lua_names
from tasks.states import ENDS, IN_DOUBT, MOVES, WATCHED

_FOLDER = Path(__file__).parent / "lua"


class Script:
    """One script: `text` to load, `sha` to call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = "\n".join((_head(), (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    """The script in `lua/<name>.lua`."""
    return Script(name)


@cache
def _head() -> str:
    moves = ", ".join(
        f"{state} = {{{', '.join(f'{event} = {new.value!r}' for event, new in moves.items())}}}"
        for state, moves in MOVES.items()
    )
    groups = {"ENDS": ENDS, "WATCHED": WATCHED, "IN_DOUBT": IN_DOUBT}
    sets = (
        f"local {name} = {{{', '.join(f'{state} = true' for state in sorted(states))}}}"
        for name, states in groups.items()
    )
    mark = f"local VERSION = {version.LEDGER_VERSION}"
    tables = (mark, lua_names(), f"local MOVES = {{{moves}}}", *sets)
    parts = ((_FOLDER / f"{name}.lua").read_text(encoding="utf-8") for name in ("prelude", "outbox"))
    return "\n".join((*tables, *parts))
