"""Reading YAML more strictly than its libraries do, and with the lines of what was read.

Only PyYAML's parser is used, never its constructors: what a plain word means is decided here, by the few rules of YAML
1.2 that JSON has too. So `no` and `on` are text, `0755` and `12:30` are text, no tag makes an object, and aliases cannot
grow a small file into a large one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from tasks.bodies import describe
from tasks.errors import InputError, Problem
from tasks.intake_json import Repeating, Unreadable, decimal, integer, too_deep

MAX_DEPTH = 100
MAX_COPIES = 100_000
"""Values that aliases may repeat, in all."""

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TEXT_TAGS = {"!", "tag:yaml.org,2002:str"}

# The C parser is ten times as fast; a PyYAML that was built without it still reads.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Lines(Repeating):
    """An object of a YAML file: `line` is where it begins, `lines` where each of its keys stands."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class LinedList(list[Any]):
    """A list of a YAML file, with the line of each item."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


@dataclass
class _Open:
    """A collection that is being read."""

    value: Lines | LinedList
    anchor: str | None
    size: int = 1
    key: str | None = None
    waits_for_key: bool = True
    key_line: int = 0


@dataclass
class _Reader:
    where: str
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    copies: int = 0
    problems: list[Problem] = field(default_factory=list)
    result: Any = None
    documents: int = 0

    def refuse(self, line: int, wrong: str, right: str) -> None:
        self.problems.append(Problem("", wrong, right, f"{self.where}, line {line}"))

    def read(self, text: str) -> Any:
        for event in yaml.parse(text, Loader=_LOADER):
            kind = type(event)
            if kind is yaml.ScalarEvent:
                line = event.start_mark.line + 1
                self.put(self.scalar(event, line), 1, event.anchor, line, scalar=event)
            elif kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
                self.begin(event, event.start_mark.line + 1)
            elif kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
                done = self.stack.pop()
                self.put(done.value, done.size, done.anchor, event.start_mark.line + 1, scalar=None)
            elif kind is yaml.AliasEvent:
                self.alias(event.anchor, event.start_mark.line + 1)
            elif kind is yaml.DocumentStartEvent:
                self.documents += 1
                if self.documents > 1:
                    self.refuse(
                        event.start_mark.line + 1, "begins a second document", "give one document a file"
                    )
                    break
        return self.result

    def scalar(self, event: Any, line: int) -> Any:
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self.refuse(line, "a tag, which is not taken", "write the value without !")
        if event.tag is not None or not event.implicit[0]:
            return event.value
        return _plain(event.value)

    def begin(self, event: Any, line: int) -> None:
        mapping = type(event) is yaml.MappingStartEvent
        plain_tag = "tag:yaml.org,2002:map" if mapping else "tag:yaml.org,2002:seq"
        if event.tag not in (None, "!", plain_tag):
            self.refuse(line, "a tag, which is not taken", "write the value without !")
        if len(self.stack) >= MAX_DEPTH:
            raise InputError([too_deep(f"{self.where}, line {line}")])
        if self.stack and self.stack[-1].waits_for_key and isinstance(self.stack[-1].value, Lines):
            self.refuse(line, "a key that is a list or an object", "keys must be text")
        self.stack.append(_Open(Lines(line) if mapping else LinedList(), event.anchor))
        if event.anchor is not None:
            # Until it is whole, an alias to it would make a thing that holds itself.
            self.anchors.pop(event.anchor, None)

    def alias(self, anchor: str, line: int) -> None:
        if anchor not in self.anchors:
            self.refuse(line, "an alias (*) of what does not stand before it", "define it with & first")
            self.put(None, 1, None, line, scalar=None)
            return
        value, size = self.anchors[anchor]
        self.copies += size
        if self.copies > MAX_COPIES:
            wrong = f"its aliases (*) repeat more than {MAX_COPIES} values"
            raise InputError(
                [Problem("", wrong, "use defaults, count or matrix", f"{self.where}, line {line}")]
            )
        self.put(value, size, None, line, scalar=value if isinstance(value, str) else None)

    def put(self, value: Any, size: int, anchor: str | None, line: int, *, scalar: Any) -> None:
        """Put a whole value where it belongs. `scalar` is None for what cannot be a key."""
        if anchor is not None:
            self.anchors[anchor] = value, size
        if not self.stack:
            self.result = value
            return
        top = self.stack[-1]
        top.size += size
        into = top.value
        if isinstance(into, LinedList):
            into.append(value)
            into.lines.append(getattr(value, "line", line))
        elif top.waits_for_key:
            top.waits_for_key = False
            top.key, top.key_line = self.key(value, scalar, line), line
        else:
            top.waits_for_key = True
            if top.key is not None:
                if top.key in into:
                    into.repeated = (*into.repeated, top.key)
                into[top.key] = value
                into.lines[top.key] = top.key_line

    def key(self, value: Any, scalar: Any, line: int) -> str | None:
        if scalar is None:
            return None  # refused where it began
        if value == "<<":
            self.refuse(line, "a merge key (<<), which YAML 1.2 does not have", "use defaults")
            return None
        if not isinstance(value, str):
            self.refuse(line, f"a key that is {describe(value)}", "keys must be text; put it in quotes")
            return None
        return value


def read_yaml(text: str, *, where: str) -> Any:
    """Read one YAML document. Like that of `read_json`, the value may hold what `json_flaws` finds.

    Objects are `Lines`, lists `LinedList`. Raises InputError where the text is not YAML, or is YAML that is not taken.
    """
    reader = _Reader(where)
    try:
        value = reader.read(text)
    except yaml.YAMLError as error:
        raise InputError([_syntax_problem(error, where)]) from None
    if reader.problems:
        raise InputError(reader.problems)
    return value


def _plain(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] in "-+.0123456789":
        if _INTEGER.fullmatch(text):
            return integer(text)
        if _DECIMAL.fullmatch(text):
            return decimal(text)
        if _NO_NUMBER.fullmatch(text):
            return Unreadable("is no number that JSON has")
    return text


def _syntax_problem(error: yaml.YAMLError, where: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    what = "".join(letter if letter.isprintable() else "?" for letter in str(what))[:150]
    right = "text with ': ' or ' #' in it, or that begins with a special character, needs quotes"
    return Problem("", f"is not valid YAML{place}: {what}", right, where)
