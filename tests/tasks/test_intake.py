"""Reading inputs: the forms told apart by content, identities, counts and warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.entries import Entry, expand_count, identify
from tasks.errors import InputError
from tasks.intake import read_input
from tasks.request import parse_request
from tests.tasks.bad_input_corpus import good_body

INPUTS = Path(__file__).parent / "inputs"


def body(name: str = "trainer", **fields: Any) -> dict[str, Any]:
    return {**good_body(), "name": name, **fields}


def entry(name: str) -> Entry:
    return Entry("fleet.json", parse_request(body(name)), name)


def identities(*names: str) -> list[str]:
    return [found.identity for found in identify(map(entry, names))]


def test_an_exported_body_is_read() -> None:
    intake = read_input((INPUTS / "document_body.json").read_bytes(), source="document_body.json")
    assert intake.form == "body"
    assert [(found.where, found.identity) for found in intake.entries] == [
        ("document_body.json", "example-instance")
    ]
    assert intake.token is None
    assert intake.curl_url is None
    assert intake.warnings == ()


def test_an_array_is_read_and_its_entries_are_counted_from_one() -> None:
    intake = read_input(json.dumps([body("a"), body("b")], indent=2), source="fleet.json")
    assert intake.form == "array"
    assert [found.where for found in intake.entries] == ["fleet.json, entry 1", "fleet.json, entry 2"]


def test_lines_are_read_past_blank_ones_and_keep_their_numbers() -> None:
    text = f"\n{json.dumps(body('a'))}\r\n\n  \n{json.dumps(body('b'))}\n\n"
    intake = read_input(text, source="fleet.jsonl")
    assert intake.form == "lines"
    assert [found.where for found in intake.entries] == ["fleet.jsonl, line 2", "fleet.jsonl, line 5"]


def test_one_line_is_one_body() -> None:
    assert read_input(json.dumps(body()) + "\n", source="a").form == "body"


def test_characters_that_only_some_take_for_line_ends_do_not_split_lines() -> None:
    script = {**good_body()["instanceConfiguration"], "initScript": "a\u2028b\u0085c"}
    lines = [json.dumps(body(name, instanceConfiguration=script), ensure_ascii=False) for name in "ab"]
    intake = read_input("\n".join(lines), source="a")
    assert [found.where for found in intake.entries] == ["a, line 1", "a, line 2"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order-mark"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_byte_order_mark_and_carriage_returns_are_tolerated(mark: bytes, line_end: str) -> None:
    for text in (
        json.dumps(body("训练"), indent=1, ensure_ascii=False),
        json.dumps([body("训练")], indent=1),
    ):
        intake = read_input(mark + text.replace("\n", line_end).encode(), source="a")
        assert intake.entries[0].request.name == "训练"
    curl = (INPUTS / "document_curl.sh").read_bytes().replace(b"\n", line_end.encode())
    assert read_input(mark + curl, source="a").form == "curl"


def test_a_curl_command_is_read_and_its_token_is_kept_apart() -> None:
    intake = read_input((INPUTS / "document_curl.sh").read_bytes(), source="create.sh")
    assert intake.form == "curl"
    assert intake.token == "header.payload.xxxx"
    assert intake.curl_url == "https://cloud.luchentech.com/api/instance/create"
    assert [found.where for found in intake.entries] == ["create.sh"]
    (warning,) = intake.warnings
    assert "--use-token" in warning
    assert "header.payload.xxxx" not in warning + repr(intake) + intake.entries[0].request.wire_json()


def test_a_curl_command_without_a_token_warns_of_nothing() -> None:
    text = f"curl https://x/api/instance/create -b 'AccessToken=your_token_here' -d '{json.dumps(body())}'"
    intake = read_input(text, source="create.sh")
    assert intake.token is None
    assert intake.warnings == ()


def test_unlisted_fields_are_warned_of_once_by_path() -> None:
    bodies = [
        body("a", zone=1),
        body("b", zone=2, billing={"chargeMode": "perHour", "duration": 1, "voucher": "v"}),
    ]
    intake = read_input(json.dumps(bodies), source="fleet.json", allow_unknown=True)
    (warning,) = intake.warnings
    assert warning.endswith(": zone, billing.voucher")


def test_many_unlisted_fields_are_not_all_named() -> None:
    intake = read_input(json.dumps(body(**{f"x{i}": i for i in range(100)})), source="a", allow_unknown=True)
    assert intake.warnings[0].endswith("x19 and 80 more")


def test_flaws_of_json_are_told_with_those_of_the_body() -> None:
    text = json.dumps([body("a"), body("b"), {}])
    text = text.replace('"name": "b"', '"name": "b", "name": "c"').replace("7892", "NaN", 1)
    with pytest.raises(InputError) as refusal:
        read_input(text, source="f")
    found = {(problem.where, problem.path) for problem in refusal.value.problems}
    assert {("f, entry 1", "nodePorts[1]"), ("f, entry 2", "name"), ("f, entry 3", "billing")} <= found
    assert len(refusal.value.problems) == len(found) == 10


def test_a_repeated_key_in_an_unlisted_field_is_refused() -> None:
    text = json.dumps(body(zone={"a": [{"b": 1}]})).replace('{"b": 1}', '{"b": 1, "b": 2}')
    with pytest.raises(InputError, match=r"zone\.a\[0\]\.b: appears more than once"):
        read_input(text, source="f", allow_unknown=True)


def test_lone_surrogates_that_a_stream_let_through_are_refused() -> None:
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_input('{"name": "\udcff"}', source="-")


def test_nesting_that_can_be_read_but_not_sent_is_refused() -> None:
    for depth in (100, 400, 800, 5_000):
        text = json.dumps(body(zone=0)).replace('"zone": 0', f'"zone": {"[" * depth}{"]" * depth}')
        with pytest.raises(InputError, match="nested too deeply"):
            read_input(text, source="f", allow_unknown=True)


@settings(deadline=None)
@given(st.text() | st.binary() | st.text(alphabet='{}[]":,\\ \n1ncurl'))
def test_no_input_crashes_the_reader(text: str | bytes) -> None:
    for allow_unknown in (False, True):
        with pytest.raises(InputError) as refusal:
            read_input(text, source="f", allow_unknown=allow_unknown)
        assert refusal.value.problems


@settings(deadline=None)
@given(st.integers(0, len(json.dumps(good_body())) - 1))
def test_every_truncation_of_a_body_is_refused(length: int) -> None:
    with pytest.raises(InputError):
        read_input(json.dumps(good_body())[:length], source="f")


def test_names_are_identities_and_repeats_get_ordinals() -> None:
    assert identities("a", "b", "a", "a") == ["a", "b", "a#2", "a#3"]


def test_an_identity_does_not_depend_on_other_names() -> None:
    assert set(identities("b", "a")) == set(identities("a", "b"))
    assert identities("a") == identities("a", "c")[:1]


name_like = st.text(alphabet="a#[]12", min_size=1, max_size=6)


@settings(deadline=None)
@given(st.lists(name_like, min_size=1, max_size=8), st.integers(1, 12))
def test_identities_and_copies_never_collide(names: list[str], count: int) -> None:
    entries = identify(map(entry, names))
    assert len({found.identity for found in entries}) == len(names)
    one_by_one = [*expand_count(entries[:1], count), *entries[1:]]
    for copies in (expand_count(entries, count), one_by_one):
        assert len({found.identity for found in copies}) == len(copies)


def test_identities_are_unique_across_files_once_identified_together() -> None:
    one, two = (read_input(json.dumps(body("a")), source=source) for source in ("one.json", "two.json"))
    both = identify([*one.entries, *two.entries])
    assert [found.identity for found in both] == ["a", "a#2"]


def test_copies_are_numbered_names_with_identities_free_of_padding() -> None:
    copies = expand_count([entry("a")], 100)
    assert [found.request.name for found in (*copies[:2], copies[-1])] == ["a-01", "a-02", "a-100"]
    assert [found.identity for found in copies[:3]] == ["a", "a[2]", "a[3]"]
    fewer = expand_count([entry("a")], 3)
    assert copies[:3] == fewer, "a larger count leaves the copies that were launched as they are"
    assert copies[6].where == "fleet.json, copy 7"


def test_a_count_of_one_changes_nothing() -> None:
    assert expand_count([entry("a")], 1) == (entry("a"),)


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(count: int) -> None:
    with pytest.raises(InputError, match="must be a whole number from 1"):
        expand_count([entry("a")], count)


class TestBodiesThatAreAlike:
    """What differs from a body that is right in its name alone is not looked at twice; nothing is overlooked for that."""

    GOOD = body(name="first")

    @pytest.mark.parametrize(
        ("line", "path"),
        [
            (json.dumps(GOOD | {"name": ""}), "name"),
            (json.dumps(GOOD | {"name": " "}), "name"),
            (json.dumps(GOOD | {"name": "a\nb"}), "name"),
            (json.dumps(GOOD | {"name": 7}), "name"),
            (json.dumps({key: value for key, value in GOOD.items() if key != "name"}), "name"),
            (json.dumps(GOOD)[:-1] + ', "region": "' + GOOD["region"] + '"}', "region"),
            (json.dumps(GOOD)[:-1] + ', "name": "again"}', "name"),
            (
                json.dumps(GOOD).replace('"duration": 1', '"duration": 1, "duration": 1'),
                "billing.duration",
            ),
            (json.dumps(GOOD).replace('"duration": 1', '"duration": true'), "billing.duration"),
            (json.dumps(GOOD).replace('"duration": 1', '"duration": NaN'), "billing.duration"),
            (
                json.dumps(GOOD).replace('"enableDocker": true', '"enableDocker": 1'),
                "instanceConfiguration.enableDocker",
            ),
            (json.dumps(GOOD | {"isSpotInstance": 0}), "isSpotInstance"),
            (json.dumps(GOOD | {"surprise": 1}), "surprise"),
        ],
    )
    def test_what_is_wrong_with_one_of_them_is_found(self, line: str, path: str) -> None:
        lines = [json.dumps(self.GOOD), json.dumps(self.GOOD | {"name": "second"})]
        assert line not in lines
        with pytest.raises(InputError) as caught:
            read_input("\n".join([*lines, line, *lines]), source="f")
        assert {(one.where, one.path) for one in caught.value.problems} == {("f, line 3", path)}

    def test_each_is_the_request_that_it_would_be_alone(self) -> None:
        bodies = [
            self.GOOD | {"name": name, "nodePorts": ports, "isSpotInstance": spot}
            for name in ("a", "b", "ü")
            for ports in ([], [22], [22.0])
            for spot in (True, False)
        ]
        entries = read_input(json.dumps(bodies), source="f").entries
        alone = [parse_request(one) for one in bodies]
        assert [entry.request for entry in entries] == alone
        assert [entry.request.wire_json() for entry in entries] == [
            json.dumps(one.wire(), ensure_ascii=False, separators=(",", ":")) for one in alone
        ]

    def test_unlisted_fields_are_each_ones_own(self) -> None:
        bodies = [self.GOOD | {"name": name, "later": ["x"]} for name in ("a", "b")]
        entries = read_input(json.dumps(bodies), source="f", allow_unknown=True).entries
        first, second = (entry.request for entry in entries)
        assert first.model_extra is not None
        before = second.wire_json()
        first.model_extra["later"].append("y")
        assert second.wire_json() == before
        assert json.loads(first.wire_json())["later"] == ["x", "y"]
