"""Fleet files and CSV: what is launched, under which names, and as which entries of the batch."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.entries import Entry, expand_count, identify, repeated_names
from tasks.errors import InputError
from tasks.intake import Intake, read_input
from tasks.policy import Policy
from tests.tasks.bad_input_corpus import good_body


def fleet(*launches: dict[str, Any], **head: Any) -> Intake:
    """A fleet file in JSON, with the good body as its defaults."""
    return read_input(json.dumps({"defaults": good_body(), **head, "launches": launches}), source="f.json")


def in_yaml(launches: str) -> Intake:
    return read_input(f"defaults: {json.dumps(good_body())}\nlaunches:\n{launches}", source="f.yaml")


def names(intake: Intake) -> list[str]:
    return [entry.request.name for entry in intake.entries]


def identities(intake: Intake) -> list[str]:
    return [entry.identity for entry in intake.entries]


def by_identity(intake: Intake) -> dict[str, str]:
    """What each entry of a batch would send."""
    assert len(set(identities(intake))) == len(intake.entries)
    return {entry.identity: entry.request.wire_json() for entry in intake.entries}


def grows(before: Intake, after: Intake, by: int) -> bool:
    """Whether submitting `after` under the batch of `before` enters so many new entries, and none is refused."""
    old, new = by_identity(before), by_identity(after)
    return old.items() <= new.items() and len(new) - len(old) == by


def test_yaml_and_json_say_the_same() -> None:
    data = {
        "batch": "nightly",
        "defaults": good_body(),
        "launches": [
            {"name": "a-{index}", "count": 2, "retry": {"until": "6h"}},
            {"name": "b-{region}", "matrix": {"region": ["x", "y"]}, "billing": {"chargeMode": "perDay"}},
        ],
    }
    one = read_input(json.dumps(data), source="f")
    other = read_input(yaml.safe_dump(data), source="f")
    assert (one.form, one.batch) == (other.form, other.batch) == ("fleet", "nightly")
    assert by_identity(one) == by_identity(other)
    assert [entry.policy for entry in one.entries] == [entry.policy for entry in other.entries]


def test_a_launch_is_merged_deeply_over_the_defaults() -> None:
    intake = fleet(
        {"name": "a", "billing": {"chargeMode": "perDay"}, "nodePorts": [1]},
        {"instanceConfiguration": {"initScript": "pip list"}},
    )
    good = good_body()
    assert [entry.request.wire() for entry in intake.entries] == [
        {**good, "name": "a", "billing": {"chargeMode": "perDay", "duration": 1}, "nodePorts": [1]},
        {**good, "instanceConfiguration": {**good["instanceConfiguration"], "initScript": "pip list"}},
    ]


def test_names_are_numbered_by_their_template_or_as_count_does() -> None:
    assert names(fleet({"name": "t-{index:03}", "count": 3})) == ["t-001", "t-002", "t-003"]
    assert names(fleet({"name": "{index}.{{x}}"})) == ["1.{x}"]
    plain = fleet({"name": "t", "count": 101})
    assert names(plain)[::50] == ["t-01", "t-51", "t-101"]
    body = read_input(json.dumps({**good_body(), "name": "t"}), source="f")
    by_option = expand_count(body.entries, 101)
    assert by_identity(plain) == {entry.identity: entry.request.wire_json() for entry in by_option}


def test_a_matrix_is_every_combination_and_its_index_begins_anew_in_each() -> None:
    intake = fleet(
        {
            "name": "{region}-{chargeMode}-{index}",
            "count": 2,
            "matrix": {"region": ["x", "y"], "billing.chargeMode": ["perDay", "perHour"]},
        }
    )
    assert names(intake) == [
        f"{region}-{mode}-{index}" for region in "xy" for mode in ("perDay", "perHour") for index in (1, 2)
    ]
    assert {(entry.request.region, entry.request.billing.charge_mode) for entry in intake.entries} == {
        (region, mode) for region in "xy" for mode in ("perDay", "perHour")
    }
    assert (
        identities(intake)[3] == '{region}-{chargeMode}-{index}(billing.chargeMode="perHour",region="x")[2]'
    )


def test_whole_objects_flags_and_numbers_can_be_values_of_a_matrix() -> None:
    intake = fleet(
        {
            "name": "spot-{isSpotInstance}-{dockerStorageSize:03}",
            "matrix": {
                "isSpotInstance": [True, False],
                "instanceConfiguration.dockerStorageSize": [50],
                "billing": [{"chargeMode": "perDay", "duration": 3}],
            },
        }
    )
    assert names(intake) == ["spot-true-050", "spot-false-050"]
    assert intake.entries[0].request.billing.duration == 3


def test_an_init_script_is_in_no_identity() -> None:
    script = "export KEY=top-secret"
    intake = fleet(
        {"name": "a", "matrix": {"instanceConfiguration.initScript": [script]}},
        {"name": "b", "matrix": {"instanceConfiguration": [{"initScript": script}]}},
    )
    assert "secret" not in "".join(f"{entry.identity} {entry.where} {entry!r}" for entry in intake.entries)


class TestGrowing:
    def test_a_larger_count_adds_only_the_new_ones(self) -> None:
        for name in ("t", "t-{index}", "t-{index:03}"):
            for few, many in ((2, 3), (9, 10), (99, 101), (999, 1000)):
                before, after = (fleet({"name": name, "count": count}) for count in (few, many))
                assert grows(before, after, many - few), (name, few, many)

    def test_a_count_that_comes_later_launches_nothing_once_more(self) -> None:
        assert grows(fleet({"name": "t-{index}"}), fleet({"name": "t-{index}", "count": 3}), 2)
        # Its name would change: the ledger refuses that, and launches none.
        assert identities(fleet({"name": "t"}))[0] in identities(fleet({"name": "t", "count": 3}))

    def test_more_values_in_a_matrix_add_only_the_new_ones(self) -> None:
        def made(regions: list[str], modes: list[str]) -> Intake:
            matrix = {"region": regions, "billing.chargeMode": modes}
            return fleet({"name": "t-{index}-{region}", "count": 2, "matrix": matrix})

        assert grows(made(["x"], ["perDay"]), made(["y", "x"], ["perHour", "perDay"]), 6)

    def test_the_order_of_launches_values_and_axes_does_not_matter(self) -> None:
        one = {"name": "a", "matrix": {"region": ["x", "y"], "nodePorts": [[1], []]}}
        other = {"name": "a", "matrix": {"nodePorts": [[], [1]], "region": ["y", "x"]}}
        b = {"name": "b-{index}", "count": 2}
        assert by_identity(fleet(one, b)) == by_identity(fleet(b, other))

    def test_another_launch_changes_nothing_for_those_that_were_there(self) -> None:
        a, b = {"name": "a-{index}", "count": 2}, {"name": "b"}
        assert grows(fleet(a, b), fleet({"name": "c", "count": 5}, b, a), 5)

    def test_launches_of_one_name_are_told_apart_and_grow_by_themselves(self) -> None:
        def made(first: int, second: int) -> Intake:
            return fleet(
                {"name": "a-{index}", "count": first, "region": "x"},
                {"name": "a-{index}", "count": second, "region": "y"},
            )

        assert grows(made(2, 2), made(4, 3), 3)
        assert identities(made(2, 1)) == ["a-{index}", "a-{index}[2]", "a-{index}#2"]

    def test_files_that_are_read_together_are_told_apart(self) -> None:
        one, two = fleet({"name": "a", "count": 2}), fleet({"name": "a", "count": 2})
        both = identify([*one.entries, *two.entries])
        assert [entry.identity for entry in both] == ["a", "a[2]", "a#2", "a#2[2]"]

    def test_a_name_that_looks_like_an_entry_of_a_matrix_is_told_from_it(self) -> None:
        intake = fleet(
            {"name": "a", "matrix": {"region": ["x"]}}, {"name": 'a(region="x")'}, {"name": "b (new)"}
        )
        assert identities(intake) == ['a(region="x")', 'a(region="x")#1', "b (new)"]

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.tuples(
                st.text(alphabet='a#[]12(=")', min_size=1, max_size=5),
                st.integers(1, 3),
                st.lists(st.sampled_from(["a", "a)", "1", '"']), max_size=3, unique=True),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def test_identities_never_collide(self, launches: list[tuple[str, int, list[str]]]) -> None:
        intake = fleet(
            *(
                {"name": name, "count": count} | ({"matrix": {"region": values}} if values else {})
                for name, count, values in launches
            )
        )
        assert len(set(identities(intake))) == len(intake.entries)


class TestPolicy:
    def test_every_key_is_read(self) -> None:
        [entry] = fleet(
            {
                "name": "a",
                "retry": {"maxAttempts": 3, "until": "6h"},
                "uniqueNames": True,
                "waitForCapacity": False,
                "schedule": {"at": "2026-12-01T02:00"},
                "fallbacks": [{"region": "x"}, {"isSpotInstance": False, "after": "30m"}],
            }
        ).entries
        policy = entry.policy
        assert (policy.max_attempts, policy.until, policy.unique_names) == (3, 6 * 3600, True)
        assert (policy.wait_for_capacity, policy.not_before) == (False, "2026-12-01T02:00")
        assert policy.fallbacks == (({"region": "x"}, 0), ({"isSpotInstance": False}, 1800))
        assert "count" not in entry.request.wire_json()

    def test_without_keys_everything_is_left_to_the_settings(self) -> None:
        assert fleet({"name": "a"}).entries[0].policy == Policy() == Policy(until=None, fallbacks=())

    def test_defaults_have_the_same_keys_and_a_launch_goes_over_them(self) -> None:
        defaults = {**good_body(), "retry": {"maxAttempts": 3, "until": "forever"}, "count": 2}
        intake = fleet(
            {"name": "a", "retry": {"maxAttempts": 5}}, {"name": "b", "count": 1}, defaults=defaults
        )
        assert names(intake) == ["a-01", "a-02", "b"]
        assert [(entry.policy.max_attempts, entry.policy.until) for entry in intake.entries] == [
            (5, math.inf), (5, math.inf), (3, math.inf),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("given", "seconds"), [("90", 90), (90, 90), ("1.5h", 5400), ("7d", 604800), ("500ms", 0.5)]
    )
    def test_lengths_of_time(self, given: object, seconds: float) -> None:
        assert fleet({"name": "a", "retry": {"until": given}}).entries[0].policy.until == seconds

    def test_a_fallback_goes_over_the_values_of_the_matrix(self) -> None:
        with pytest.raises(InputError) as refusal:
            fleet(
                {
                    "matrix": {
                        "billing": [{"chargeMode": "perDay", "duration": 3}, {"chargeMode": "perHour"}]
                    },
                    "fallbacks": [{"billing": {"chargeMode": "perHour"}}],
                }
            )
        [problem] = refusal.value.problems
        assert problem.path == "fallbacks[0].billing.duration"

    def test_it_is_told_in_words(self) -> None:
        policy = (
            fleet(
                {
                    "name": "a",
                    "retry": {"until": "90m"},
                    "fallbacks": [{"region": "x"}],
                    "schedule": {"at": "02:00"},
                }
            )
            .entries[0]
            .policy
        )
        assert str(policy) == "at 02:00; until 90 m are over; 1 fallback"


class TestWhereProblemsAre:
    def problems(self, text: str, source: str = "f.yaml") -> list[tuple[str, str]]:
        with pytest.raises(InputError) as refusal:
            read_input(text, source=source)
        return [(problem.where, problem.path) for problem in refusal.value.problems]

    def test_everything_is_told_at_once_with_its_own_line(self) -> None:
        text = "\n".join(
            [
                "defaults:",
                f"  nodePorts: {good_body()['nodePorts']}",
                "  billing:",
                "    chargeMode: perhour",  # line 4
                "    duration: 1",
                "launches:",
                "  - name: a-{zone}",  # line 7
                "    region: 7",
                "    retry:",
                "      until: soon",
                "    matrix:",
                "      isSpotInstance: [true,",
                "                       maybe]",
                "  - name: b",  # line 14
            ]
        )
        found = self.problems(text)
        assert {
            ("f.yaml, defaults, line 4", "billing.chargeMode"),
            ("f.yaml, launch 1, line 7", "name"),
            ("f.yaml, launch 1, line 8", "region"),
            ("f.yaml, launch 1, line 10", "retry.until"),
            ("f.yaml, launch 1, line 13", "matrix.isSpotInstance[1]"),
            ("f.yaml, launch 1, line 7", "imageId"),
            ("f.yaml, launch 2, line 14", "region"),
        } <= set(found)
        assert len(found) == len(set(found)), "each is told once, however many launches it is in"

    def test_what_is_wrong_with_a_copy_is_told_once(self) -> None:
        text = f"defaults: {json.dumps(good_body())}\nlaunches:\n  - {{count: 5000, region: 7}}"
        assert self.problems(text) == [("f.yaml, launch 1, line 3", "region")]

    def test_problems_of_several_launches_are_all_told(self) -> None:
        data = {"defaults": good_body(), "launches": [{"region": 1}, {"name": "a"}, {"region": ""}, 5]}
        assert self.problems(json.dumps(data), "f.json") == [
            ("f.json, launch 1", "region"), ("f.json, launch 3", "region"), ("f.json, launch 4", ""),
        ]  # fmt: skip


class TestYaml:
    def test_what_only_yaml_1_1_takes_for_something_else_is_text(self) -> None:
        words = ["no", "on", "y", "0755", "0x1F", "12:30:00", "1_000", "2026-12-01", "=", "0o17", "08"]
        for word in words:
            assert names(in_yaml(f"  - name: {word}")) == [word]
            assert in_yaml(f"  - region: {word}").entries[0].request.region == word

    def test_numbers_constants_and_quoted_text_are_those_of_json(self) -> None:
        intake = in_yaml(
            "  - name: '5'\n    region: !!str 7\n    isSpotInstance: True\n    nodePorts: [+80, 81.0]\n"
            "    instanceConfiguration:\n      dockerStorageSize: 1.5e1\n      initScript: |\n        echo a\n        echo b\n"
        )
        request = intake.entries[0].request
        assert (request.name, request.region, request.is_spot_instance) == ("5", "7", True)
        assert request.node_ports == (80, 81)
        assert request.instance_configuration.docker_storage_size == 15
        assert request.instance_configuration.init_script == "echo a\necho b\n"

    def test_anchors_repeat_values(self) -> None:
        intake = in_yaml("  - {name: a, nodePorts: &ports [1, 2]}\n  - {name: b, nodePorts: *ports}")
        assert [entry.request.node_ports for entry in intake.entries] == [(1, 2), (1, 2)]

    def test_comments_document_marks_and_byte_order_marks_do_no_harm(self) -> None:
        text = f"\ufeff# a comment\n---\ndefaults: {json.dumps(good_body())}\nlaunches: [{{name: a}}]\n...\n"
        assert names(read_input(text.encode(), source="f")) == ["a"]

    @settings(deadline=None, max_examples=150)
    @given(st.text(alphabet="launches:\n -{}[]&*!a'\"|>#%@`?,", max_size=60))
    def test_no_text_crashes_the_reader(self, text: str) -> None:
        for tail in (text, f"launches: {text}", f"launches:\n  - {text}"):
            with pytest.raises(InputError) as refusal:
                read_input(tail, source="f")
            assert all(str(problem).isprintable() for problem in refusal.value.problems)


class TestCsv:
    HEADER = (
        "name,imageId,instanceTypeId,region,billing.chargeMode,billing.duration,"
        "instanceConfiguration.enableCommonData,instanceConfiguration.enableDocker,instanceConfiguration.initScript,"
        "nodePorts,remoteStorages"
    )

    def test_cells_are_typed_by_their_fields(self) -> None:
        storages = good_body()["remoteStorages"]
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(
            [*self.HEADER.split(","), "isSpotInstance", "instanceConfiguration.dockerStorageSize", "count"]
        )
        writer.writerow(
            [
                "007",
                12,
                "t",
                "r",
                "perDay",
                3,
                "TRUE",
                "false",
                'echo "a",\nls',
                "7891;7892",
                json.dumps(storages),
                "true",
                1.5,
                "",
            ]
        )
        writer.writerow(["b", "i", "t", "r", "perHour", 1, "False", "true", "", "", "", "", "", 2])
        writer.writerow(["c", "i", "t", "r", "perHour", 1, "False", "true", "", "[80]", "[]", "", "", ""])
        intake = read_input(out.getvalue(), source="f.csv")
        assert intake.form == "csv"
        assert [(entry.where, entry.request.name) for entry in intake.entries] == [
            ("f.csv, row 2", "007"), ("f.csv, row 3, copy 1", "b-01"), ("f.csv, row 3, copy 2", "b-02"), ("f.csv, row 4", "c"),
        ]  # fmt: skip
        first, second, *_, last = (entry.request for entry in intake.entries)
        assert first.image_id == "12"
        assert first.wire()["remoteStorages"] == storages
        assert first.instance_configuration.init_script == 'echo "a",\nls'
        assert (first.node_ports, last.node_ports) == ((7891, 7892), (80,))
        assert (first.is_spot_instance, second.is_spot_instance) == (True, False)
        assert (first.instance_configuration.docker_storage_size, second.node_ports) == (1.5, ())

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_what_spreadsheets_write_is_read(self, delimiter: str, line_end: str) -> None:
        row = "a,i,t,r,perDay,3,TRUE,FALSE,,,"
        text = line_end.join(["", self.HEADER, row, ",,,,,,,,,,", row, ""]).replace(",", delimiter)
        intake = read_input(b"\xef\xbb\xbf" + text.encode(), source="f")
        assert identities(intake) == ["a", "a#2"]
        assert intake.entries[1].where == "f, row 5"

    def test_rows_have_the_keys_of_launches(self) -> None:
        text = f'{self.HEADER},retry.until,retry.maxAttempts,uniqueNames,schedule.at,matrix\n"a-{{region}}",i,t,r,perDay,3,TRUE,FALSE,,,,6h,3,true,02:00,"{{""region"": [""x"", ""y""]}}"'
        intake = read_input(text, source="f")
        assert names(intake) == ["a-x", "a-y"]
        assert intake.entries[0].policy == Policy(3, True, None, 6 * 3600, "02:00")

    def test_unlisted_columns_are_sent_where_allowed(self) -> None:
        text = f"{self.HEADER},zone.id,gpu\na,i,t,r,perDay,3,TRUE,FALSE,,,,7,h800\n"
        intake = read_input(text, source="f", allow_unknown=True)
        assert intake.entries[0].request.wire()["zone"] == {"id": 7}
        assert intake.entries[0].request.wire()["gpu"] == "h800"
        assert intake.warnings


def test_names_that_several_entries_send_are_known() -> None:
    intake = fleet(
        {"name": "a"}, {"name": "a", "region": "x"}, {"name": "b", "count": 2},
        {"name": "c", "uniqueNames": True}, {"name": "c", "uniqueNames": True},
    )  # fmt: skip
    assert repeated_names(intake.entries) == {"a": 2}


def test_a_count_of_the_command_line_does_not_go_with_counts_of_a_file() -> None:
    with pytest.raises(InputError, match="write `count` into the file"):
        expand_count(fleet({"name": "a"}).entries, 2)


def test_unlisted_fields_of_a_launch_are_sent_where_allowed_but_misspelt_keys_never() -> None:
    text = json.dumps({"defaults": good_body(), "launches": [{"zone": 1}]})
    intake = read_input(text, source="f", allow_unknown=True)
    assert intake.warnings == ("f: sent although the API's document does not list them: zone",)
    with pytest.raises(InputError, match='did you mean "count"'):
        read_input(text.replace("zone", "cuont"), source="f", allow_unknown=True)


def test_reading_does_not_change_what_two_launches_share() -> None:
    intake = in_yaml(
        "  - {name: a, billing: &b {chargeMode: perDay}}\n  - {name: b, billing: *b, matrix: {billing.duration: [2, 3]}}"
    )
    assert [entry.request.billing.duration for entry in intake.entries] == [1, 2, 3]


@pytest.mark.parametrize("form", ["yaml", "json", "csv", "count"])
def test_ten_thousand_launches_are_read_in_no_time(form: str) -> None:
    body = {key: value for key, value in good_body().items() if key != "remoteStorages"}
    launches = [{"name": f"t-{number}", "region": f"r-{number}"} for number in range(10_000)]
    head = {"defaults": {**body, "remoteStorages": []}}
    text = {
        "yaml": f"defaults: {json.dumps(head['defaults'])}\nlaunches:\n"
        + "".join(f"  - name: {one['name']}\n    region: {one['region']}\n" for one in launches),
        "json": json.dumps({**head, "launches": launches}),
        "csv": TestCsv.HEADER
        + "\n"
        + "".join(f"t-{n},i,t,r,perDay,3,TRUE,FALSE,,80;81,[]\n" for n in range(10_000)),
        "count": json.dumps({**head, "launches": [{"name": "t", "count": 10_000}]}),
    }[form]
    began = time.process_time()
    assert len(read_input(text, source="f").entries) == 10_000
    # It takes about half a second; this is for a machine that is busy, and still far from what a person notices.
    assert time.process_time() - began < 4


def test_an_entry_shows_no_script() -> None:
    entry: Entry = fleet({"instanceConfiguration": {"initScript": "top-secret"}}).entries[0]
    assert "top-secret" not in repr(entry)
