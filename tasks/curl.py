"""Reading a `curl` command as text, without running it: what the console and browsers copy, and the document shows.

Only what a shell would take literally is understood. A command that a shell would complete from elsewhere (a variable,
a file, another command) is refused rather than guessed at, since the body would not be the one the user sees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from tasks.errors import InputError, Problem

CREATE_PATH = "/instance/create"

_Kind = Literal["data", "header", "cookie", "method", "url", "value", "flag"]

# Every option that is understood. `value` takes a value and `flag` takes none; both leave the request as it is.
_OPTIONS: dict[str, _Kind] = {
    **dict.fromkeys(("-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--json"), "data"),
    **dict.fromkeys(("-H", "--header"), "header"),
    **dict.fromkeys(("-b", "--cookie"), "cookie"),
    **dict.fromkeys(("-X", "--request"), "method"),
    "--url": "url",
    **dict.fromkeys(("-A", "--user-agent", "-e", "--referer"), "value"),
    **dict.fromkeys(
        ("-m", "--max-time", "--connect-timeout", "--retry", "--retry-delay", "--cacert"), "value"
    ),
    **dict.fromkeys(
        ("-o", "--output", "-D", "--dump-header", "-c", "--cookie-jar", "-w", "--write-out"), "value"
    ),
    **dict.fromkeys(("-s", "--silent", "-S", "--show-error", "-v", "--verbose", "-i", "--include"), "flag"),
    **dict.fromkeys(("-k", "--insecure", "-L", "--location", "-f", "--fail", "--fail-with-body"), "flag"),
    **dict.fromkeys(("-4", "--ipv4", "-6", "--ipv6", "--http1.1", "--http2", "--tlsv1.2"), "flag"),
    **dict.fromkeys(("-g", "--globoff", "-N", "--no-buffer", "--compressed", "--path-as-is"), "flag"),
    **dict.fromkeys(("-#", "--progress-bar", "--no-progress-meter", "--ssl-no-revoke"), "flag"),
}
_REFUSED = {
    **dict.fromkeys(
        ("--data-urlencode", "-F", "--form", "--form-string"), "sends form data, and the API takes JSON"
    ),
    **dict.fromkeys(("-T", "--upload-file"), "sends a file"),
    **dict.fromkeys(("-G", "--get"), "makes it a GET request, and an instance is created by POST"),
    **dict.fromkeys(("-I", "--head"), "makes it a HEAD request, and an instance is created by POST"),
    **dict.fromkeys(("-K", "--config"), "reads options from a file"),
    **dict.fromkeys(("-:", "--next"), "begins a second request"),
    **dict.fromkeys(("-u", "--user"), "logs in by a way that the API's document does not have"),
}

_COMMAND = re.compile(r"\$?[ \t]*curl(?:\.exe)?(?=[ \t\n\\]|$)")
_BLANK_OR_COMMENT = re.compile(r"(?:[ \t]*(?:#[^\n]*)?(?:\n|$))*[ \t]*")
_CONTINUATION = re.compile(r"\\[ \t]*(?:\n|$)")
_PLAIN = re.compile(r"""[^\s\\'"$`;|&<>()^]+""")
_EXPANSION = re.compile(r"[A-Za-z0-9_{(@*#?!$-]")
_ANSI_QUOTED = re.compile(r"\$'((?:[^'\\]++|\\.)*+)'", re.DOTALL)
_ANSI_PIECE = re.compile(
    r"\\x([0-9A-Fa-f]{1,2})|\\u([0-9A-Fa-f]{1,4})|\\U([0-9A-Fa-f]{1,8})|\\([0-7]{1,3})|\\(.)|([^\\]+)",
    re.DOTALL,
)
_ANSI_LETTERS = dict(zip("abeEfnrtv\\'\"?", "\a\b\x1b\x1b\f\n\r\t\v\\'\"?", strict=True))
_TOKEN = re.compile(r"(?:^|;)\s*AccessToken=\s*\"?([^;\"\s]*)")
_PLACEHOLDER = "your_token_here"


@dataclass(frozen=True)
class CurlCommand:
    """What a curl command would send. `repr` shows neither the body nor the token."""

    url: str
    body: str = field(repr=False)
    token: str | None = field(repr=False)
    """The access token of its cookie; None where it has none, or only the document's placeholder."""


def looks_like_curl(text: str) -> bool:
    """Whether the first thing in the text, comments aside, is a curl command."""
    return _command_at(text.replace("\r\n", "\n")) is not None


def read_curl(text: str, *, where: str = "") -> CurlCommand:
    """Read one curl command that creates an instance. Raises InputError with every problem found."""
    text = text.replace("\r\n", "\n")
    command = _command_at(text)
    if command is None:
        raise InputError([Problem("", "is not a curl command", "must begin with curl", where)])
    reading = _Reading(where)
    words = _words(text, command.end(), where)
    for word in words:
        reading.take(word, words)
    return reading.finish()


def _command_at(text: str) -> re.Match[str] | None:
    blank = _BLANK_OR_COMMENT.match(text)
    return _COMMAND.match(text, blank.end() if blank else 0)


@dataclass(frozen=True)
class _Word:
    """One argument as the shell would pass it; `expands` when the shell would put something in its place."""

    text: str
    expands: bool = False


class _Reading:
    """The options seen so far."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._problems: list[Problem] = []
        self._bodies: list[str] = []
        self._urls: list[str] = []
        self._token: str | None = None
        self._takers: dict[_Kind, Callable[[str, _Word], None]] = {
            "data": self._take_data,
            "header": self._take_header,
            "cookie": self._take_cookie,
            "method": self._take_method,
            "url": self._take_url,
        }

    def take(self, word: _Word, following: Iterator[_Word]) -> None:
        """Take one argument; an option takes its value from the words that follow."""
        if word.text.startswith("--"):
            self._take_long(word, following)
        elif word.text.startswith("-") and len(word.text) > 1:
            self._take_short(word, following)
        else:
            self._take_url("--url", word)

    def finish(self) -> CurlCommand:
        if not self._urls:
            self._refuse("has no URL", f"give the URL, which ends with {CREATE_PATH}")
        if len(self._urls) > 1:
            self._refuse(f"has {len(self._urls)} URLs", "give one")
        if not self._bodies:
            self._refuse("has no data", "give the request body with --data-raw '{...}'")
        if len(self._bodies) > 1:
            self._refuse(f"has {len(self._bodies)} data options", "give the request body once")
        if self._problems:
            raise InputError(self._problems)
        return CurlCommand(self._urls[0], self._bodies[0], self._token)

    def _refuse(self, wrong: str, right: str = "") -> None:
        self._problems.append(Problem("", f"the curl command {wrong}", right, self._where))

    def _take_long(self, word: _Word, following: Iterator[_Word]) -> None:
        option, equals, attached = word.text.partition("=")
        kind = self._kind(option)
        if kind == "flag" and equals:
            self._refuse(f"gives {option} a value, but it takes none")
        elif kind != "flag":
            value = _Word(attached, word.expands) if equals else next(following, None)
            self._take_value(kind, option, value)

    def _take_short(self, word: _Word, following: Iterator[_Word]) -> None:
        # Short options may share a dash, and the last may carry its value: -sSd'{}'.
        for index, letter in enumerate(word.text[1:], start=2):
            option = f"-{letter}"
            kind = self._kind(option)
            if kind != "flag":
                attached = word.text[index:]
                self._take_value(
                    kind, option, _Word(attached, word.expands) if attached else next(following, None)
                )
                return

    def _kind(self, option: str) -> _Kind:
        if option in _OPTIONS:
            return _OPTIONS[option]
        if option in _REFUSED:
            self._refuse(f"has the option {option}, which {_REFUSED[option]}")
        else:
            # An option may be a mangled secret, so only what looks like one is shown.
            shown = (
                option
                if re.fullmatch(r"--?[A-Za-z0-9.:#-]{1,30}", option)
                else "one that is no option's name"
            )
            self._refuse(f"has an option that is not understood: {shown}", "leave it out if it is not needed")
        # Nobody knows whether the next word is its value, so nothing after it can be judged.
        raise InputError(self._problems)

    def _take_value(self, kind: _Kind, option: str, value: _Word | None) -> None:
        if value is None:
            self._refuse(f"ends after {option}", "give its value")
        elif kind in self._takers:
            self._takers[kind](option, value)

    def _take_data(self, option: str, word: _Word) -> None:
        if word.expands:
            self._refuse("takes data from a shell variable or another command", "write the JSON body itself")
        elif word.text.startswith("@") and option != "--data-raw":
            self._refuse("takes its data from a file", "give that file itself, or write the JSON body")
        elif not word.text.strip():
            self._refuse("has empty data", "give the request body with --data-raw '{...}'")
        self._bodies.append(word.text)

    def _take_header(self, _option: str, word: _Word) -> None:
        name, _, value = word.text.partition(":")
        if name.strip().lower() == "cookie":
            self._take_cookie("--cookie", _Word(value, word.expands))

    def _take_cookie(self, _option: str, word: _Word) -> None:
        found = _TOKEN.search(word.text)
        # A token that the shell would have to fill in is not in the text.
        if found and not word.expands and found[1] not in ("", _PLACEHOLDER):
            self._token = self._token or found[1]

    def _take_method(self, _option: str, word: _Word) -> None:
        if word.expands or word.text.upper() != "POST":
            shown = f" {word.text}" if re.fullmatch(r"[A-Za-z]{1,10}", word.text) else ""
            self._refuse(f"has the method{shown}", "an instance is created by POST")

    def _take_url(self, _option: str, word: _Word) -> None:
        self._urls.append(word.text)
        try:
            parts = urlsplit(word.text if "://" in word.text else f"https://{word.text}")
        except ValueError:
            self._refuse("has a URL that cannot be read", f"it must end with {CREATE_PATH}")
            return
        if word.expands:
            self._refuse("takes its URL from a shell variable or another command", "write the URL itself")
        elif parts.scheme not in ("http", "https") or not parts.hostname:
            self._refuse("has a URL that is not one of http or https", f"it must end with {CREATE_PATH}")
        elif "@" in parts.netloc:
            self._refuse("has a URL with a user name or password in it", "take them out")
        elif not parts.path.endswith(CREATE_PATH):
            self._refuse("has a URL that does not create instances", f"its path must end with {CREATE_PATH}")


def _words(text: str, start: int, where: str) -> Iterator[_Word]:
    """Split the arguments of one command as bash does, from `start` to the command's end."""

    def problem(wrong: str, right: str, position: int) -> InputError:
        line = text.count("\n", 0, position) + 1
        return InputError([Problem("", f"the curl command {wrong} (line {line})", right, where)])

    pieces: list[str] = []
    in_word = expands = False
    at = start
    while at < len(text):
        character = text[at]
        if continuation := _CONTINUATION.match(text, at):
            at = continuation.end()
            continue
        if character.isspace() or (character == "#" and not in_word):
            if in_word:
                yield _Word("".join(pieces), expands)
                pieces, in_word, expands = [], False, False
            if character in "\n#":
                rest = _BLANK_OR_COMMENT.match(text, at)
                at = rest.end() if rest else at
                break
            at += 1
            continue
        in_word = True
        if plain := _PLAIN.match(text, at):
            pieces.append(plain[0])
            at = plain.end()
        elif character == "\\":
            pieces.append(text[at + 1])
            at += 2
        elif character == "'":
            end = text.find("'", at + 1)
            if end < 0:
                raise problem("has a single quote that is not closed", "was the end cut off?", at)
            pieces.append(text[at + 1 : end])
            at = end + 1
        elif text.startswith("$'", at):
            quoted = _ANSI_QUOTED.match(text, at)
            if not quoted:
                raise problem("has a $'...' quote that is not closed", "was the end cut off?", at)
            try:
                pieces.append(_ansi_c(quoted[1]))
            except ValueError as flaw:
                raise problem(f"has a $'...' quote with {flaw}", "copy the command again", at) from None
            at = quoted.end()
        elif character == '"' or text.startswith('$"', at):
            opened = at
            at = text.index('"', at) + 1
            while text[at : at + 1] != '"':
                if at >= len(text):
                    raise problem("has a double quote that is not closed", "was the end cut off?", opened)
                if text[at] == "\\" and text[at + 1 : at + 2] in ("$", "`", '"', "\\", "\n"):
                    pieces.append(text[at + 1].replace("\n", ""))
                    at += 2
                    continue
                expands = expands or _expands_at(text, at)
                pieces.append(text[at])
                at += 1
            at += 1
        elif character == "^" and text[at + 1 : at + 2] in ('"', "\n"):
            right = 'choose "Copy as cURL (bash)" in the browser'
            raise problem("is written for the Windows command prompt", right, at)
        elif character in "$^":
            expands = expands or _expands_at(text, at)
            pieces.append(character)
            at += 1
        elif character == ";" and not text[at + 1 :].strip():
            in_word = bool(pieces)
            at = len(text)
        else:
            right = "give the curl command alone, with its URL and data in single quotes"
            raise problem(f"goes on after {character}", right, at)
    if in_word:
        yield _Word("".join(pieces), expands)
    if text[at:].strip():
        raise problem("is followed by another command", "give one command", at)


def _expands_at(text: str, at: int) -> bool:
    return text[at] == "`" or (text[at] == "$" and bool(_EXPANSION.match(text, at + 1)))


def _ansi_c(quoted: str) -> str:
    """Decode what stands in $'...'. Raises ValueError saying what cannot be decoded."""
    out = bytearray()  # bytes, because \x and octal escapes spell UTF-8 byte by byte
    for piece in _ANSI_PIECE.finditer(quoted):
        hexadecimal, short, long, octal, letter, plain = piece.groups()
        if hexadecimal:
            out.append(int(hexadecimal, 16))
        elif octal:
            out.append(int(octal, 8) & 0xFF)
        elif short or long:
            code = int(short or long, 16)
            if code > 0x10FFFF:
                raise ValueError("a character that Unicode does not have")
            out += chr(code).encode("utf-8", "surrogatepass")
        elif letter:
            out += _ANSI_LETTERS.get(letter, f"\\{letter}").encode("utf-8", "surrogatepass")
        else:
            out += plain.encode("utf-8", "surrogatepass")
    if 0 in out:
        raise ValueError("a NUL character")
    try:
        text = out.decode("utf-8", "surrogatepass")
        # Browsers write a character beyond U+FFFF as two \u escapes: join the halves.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise ValueError("text that is not UTF-8") from None
