"""Reading curl commands as the console, the document and browsers write them."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.curl import looks_like_curl, read_curl
from tasks.errors import InputError

INPUTS = Path(__file__).parent / "inputs"
URL = "https://cloud.luchentech.com/api/instance/create"


def test_the_command_of_the_document_is_read() -> None:
    command = read_curl((INPUTS / "document_curl.sh").read_text(encoding="utf-8"))
    assert command.url == URL
    assert command.token == "header.payload.xxxx"
    assert json.loads(command.body)["instanceTypeId"] == "c531be90-xxxx-xxxx-xxxx-59d3d911e29e"


def test_the_command_of_a_browser_is_read() -> None:
    command = read_curl((INPUTS / "browser_curl.sh").read_text(encoding="utf-8"))
    body = json.loads(command.body)
    assert body["name"] == "it's-训练-🚀"
    assert body["instanceConfiguration"]["initScript"] == "echo 'hi'\nexit!0"
    assert command.token == "header.payload.xxxx"


@pytest.mark.parametrize(
    "data",
    [
        "--data '{}'",
        "--data-raw '{}'",
        "--data-binary '{}'",
        "--data-ascii '{}'",
        "--json '{}'",
        "--data-raw='{}'",
        "-d '{}'",
        "-d'{}'",
        '-d "{}"',
        "-d {}",
        "-d \\{\\}",
        "-d $'{}'",
        "-d $'\\x7b\\175'",
        '-d $"{}"',
        "-sSkd '{}'",
        "-sLd'{}'",
        "-X POST -d '{}'",
        "-XPOST -d '{}'",
        "-X 'post' -d '{}'",
        "--request POST -d '{}'",
    ],
)
def test_every_way_to_give_data_is_read(data: str) -> None:
    assert read_curl(f"curl {URL} {data}").body == "{}"


@pytest.mark.parametrize(
    "command",
    [
        f"curl --url {URL} -d '{{}}'",
        f"curl --url={URL} -d '{{}}'",
        f"curl -d '{{}}' {URL}",
        f"curl.exe {URL} -d '{{}}'",
        f"$ curl {URL} -d '{{}}'",
        f"#!/bin/sh\n\n# a comment\ncurl {URL} -d '{{}}' # and another\n\n# the end\n",
        f"  curl {URL} \\\r\n  -d '{{}}' \\\r\n",
        f"curl {URL} \\  \n  -d '{{}}' \\",
        f"curl {URL} -d '{{}}' ;\n",
        f"curl {URL} -s -S -k -L -i -v --compressed -A agent -e 'https://x' -m 30 -o /dev/null -d '{{}}'",
        f"curl {URL} --max-time=30 --connect-timeout 5 --http1.1 -H 'accept: */*' -d '{{}}'",
        f"curl \\\n{URL} -d '{{}}'",
    ],
)
def test_harmless_variations_are_read(command: str) -> None:
    assert looks_like_curl(command)
    read = read_curl(command)
    assert (read.url, read.body, read.token) == (URL, "{}", None)


@pytest.mark.parametrize(
    ("option", "token"),
    [
        ("-b 'AccessToken=a.b.c'", "a.b.c"),
        ("-bAccessToken=a.b.c", "a.b.c"),
        ("--cookie 'x=1; AccessToken=a.b.c; y=2'", "a.b.c"),
        ("-H 'Cookie: AccessToken=a.b.c'", "a.b.c"),
        ("-H 'cookie:x=1;AccessToken=\"a.b.c\"'", "a.b.c"),
        ("-b 'AccessToken=your_token_here'", None),
        ("-b 'AccessToken='", None),
        ("-b 'OtherAccessToken=a.b.c'", None),
        ("-b cookies.txt", None),
        ('-b "AccessToken=$TOKEN"', None),
        ("-H 'X-Token: AccessToken=a.b.c'", None),
        ("", None),
    ],
)
def test_the_token_is_taken_out_of_the_cookie(option: str, token: str | None) -> None:
    assert read_curl(f"curl {URL} {option} -d '{{}}'").token == token


def test_neither_token_nor_body_show_in_repr() -> None:
    shown = repr(read_curl(f"curl {URL} -b 'AccessToken=a.b.c' -d '{{\"name\": 1}}'"))
    assert "a.b.c" not in shown
    assert "name" not in shown


@pytest.mark.parametrize("text", ["", "curly", "curling x", "wget x", "{}", "# curl x", "echo curl"])
def test_other_text_is_no_curl_command(text: str) -> None:
    assert not looks_like_curl(text)
    with pytest.raises(InputError, match="is not a curl command"):
        read_curl(text)


@pytest.mark.parametrize("mark", ["^", "a^", "$", "!", "%", "$5", "#", ";", "|"])
def test_quoted_data_may_hold_what_a_shell_would_act_on(mark: str) -> None:
    data = json.dumps({"initScript": mark})
    assert read_curl(f"curl {URL} -d '{data}'").body == data


def test_several_problems_are_told_at_once() -> None:
    with pytest.raises(InputError) as refusal:
        read_curl("curl -X GET https://x/instance/list -d '{}' -d @file", where="a.sh")
    assert len(refusal.value.problems) == 4
    assert {problem.where for problem in refusal.value.problems} == {"a.sh"}


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")).filter(str.strip))
def test_whatever_a_shell_quotes_is_read_back(text: str) -> None:
    assert read_curl(f"curl {URL} --data-raw {shlex.quote(text)}").body == text


@settings(deadline=None)
@given(st.text())
def test_ansi_quotes_give_back_every_character(text: str) -> None:
    escaped = "".join(
        "".join(
            f"\\u{unit:04x}" for unit in memoryview(character.encode("utf-16-le", "surrogatepass")).cast("H")
        )
        for character in text
    )
    command = f"curl {URL} --data-raw $'{escaped}'"
    if "\0" in text or not text.strip() or any("\ud800" <= character <= "\udfff" for character in text):
        with pytest.raises(InputError):
            read_curl(command)
    else:
        assert read_curl(command).body == text


@settings(deadline=None)
@given(st.text(alphabet="curl -dX'\"\\$`;|&<>()^#\n\r@={}ux0"))
def test_no_text_crashes_the_reader(text: str) -> None:
    with contextlib.suppress(InputError):
        assert read_curl(f"curl {text}").body
