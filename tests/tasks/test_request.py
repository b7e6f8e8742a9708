"""The request model: what is accepted, what is sent, and what never shows."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.bodies import HOURLY_CHARGE_MODES, redacted, request_differences
from tasks.errors import InputError
from tasks.request import (
    CHARGE_MODES,
    MAX_UNKNOWN_DEPTH,
    Billing,
    InstanceConfiguration,
    LaunchRequest,
    RemoteStorage,
    parse_request,
)
from tests.tasks.bad_input_corpus import good_body

INPUTS = Path(__file__).parent / "inputs"

# Scripts are sent as they are; names and ids hold no control characters.
encodable = st.characters(exclude_categories=["Cs"])
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)
sizes = st.integers(0, 10**12) | st.floats(0, allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(encodable, max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(encodable, max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def billings(draw: st.DrawFn) -> dict[str, Any]:
    mode = draw(st.sampled_from(CHARGE_MODES))
    return {"chargeMode": mode, "duration": 1 if mode in HOURLY_CHARGE_MODES else draw(st.integers(1, 10**6))}


bodies = st.fixed_dictionaries(
    {
        "name": texts,
        "imageId": texts,
        "instanceTypeId": texts,
        "region": texts,
        "billing": billings(),
        "remoteStorages": st.lists(
            st.fixed_dictionaries(
                {"mountPath": texts, "remoteStorageName": texts, "remoteStorageId": texts, "type": texts}
            ),
            max_size=3,
        ),
        "instanceConfiguration": st.fixed_dictionaries(
            {
                "enableCommonData": st.booleans(),
                "enableDocker": st.booleans(),
                "initScript": st.text(encodable, max_size=30),
            },
            optional={"extraDataDiskSizeDB": sizes, "dockerStorageSize": sizes},
        ),
        "nodePorts": st.lists(st.integers(1, 65535), unique=True, max_size=5),
    },
    optional={"isSpotInstance": st.booleans()},
)


def with_defaults(body: dict[str, Any]) -> dict[str, Any]:
    configuration = {"extraDataDiskSizeDB": 0, "dockerStorageSize": 0, **body["instanceConfiguration"]}
    return {"isSpotInstance": False, **body, "instanceConfiguration": configuration}


def problems_of(data: object, *, allow_unknown: bool = False) -> dict[str, str]:
    with pytest.raises(InputError) as refusal:
        parse_request(data, allow_unknown=allow_unknown)
    return {problem.path: str(problem) for problem in refusal.value.problems}


def built(**changes: Any) -> LaunchRequest:
    fields: dict[str, Any] = {
        "name": "trainer",
        "image_id": "image",
        "instance_type_id": "type",
        "region": "region",
        "billing": Billing(charge_mode="perHour", duration=1),
        "remote_storages": [
            RemoteStorage(mount_path="/v", remote_storage_name="v", remote_storage_id="1", type="filesystem")
        ],
        "instance_configuration": InstanceConfiguration(
            enable_common_data=False, enable_docker=False, init_script=""
        ),
        "node_ports": [22],
    }
    return LaunchRequest(**(fields | changes))


@settings(deadline=None)
@given(bodies)
def test_a_valid_body_is_sent_as_given_plus_the_documented_defaults(body: dict[str, Any]) -> None:
    request = parse_request(body)
    assert request.wire() == with_defaults(body)
    assert json.loads(request.wire_json()) == with_defaults(body)
    assert request.wire_json().encode()
    assert parse_request(request.wire()) == request
    assert request.unknown_paths() == ()


@settings(deadline=None)
@given(bodies, json_values)
def test_unlisted_fields_are_sent_unchanged_at_every_level_when_allowed(
    body: dict[str, Any], value: Any
) -> None:
    body["xyzzy"] = value
    body["billing"]["xyzzy"] = value
    body["instanceConfiguration"]["xyzzy"] = value
    for storage in body["remoteStorages"]:
        storage["xyzzy"] = value
    request = parse_request(body, allow_unknown=True)
    assert request.wire() == with_defaults(body)
    assert json.loads(request.wire_json()) == with_defaults(body)
    assert len(request.unknown_paths()) == 3 + len(body["remoteStorages"])
    assert all(path.endswith("xyzzy") for path in request.unknown_paths())


@settings(deadline=None)
@given(bodies, st.data())
def test_a_body_without_a_required_field_is_refused_by_its_path(
    body: dict[str, Any], data: st.DataObject
) -> None:
    required = [key for key in body if key != "isSpotInstance"]
    key = data.draw(st.sampled_from(required))
    del body[key]
    assert list(problems_of(body)) == [key]


@settings(deadline=None)
@given(json_values | st.dictionaries(st.sampled_from([*good_body(), "x"]), json_values))
def test_any_other_json_is_refused_and_never_crashes(value: Any) -> None:
    for allow_unknown in (False, True):
        assert problems_of(value, allow_unknown=allow_unknown)


def test_the_example_of_the_document_is_sent_as_it_stands() -> None:
    body = json.loads((INPUTS / "document_body.json").read_text(encoding="utf-8"))
    request = parse_request(body)
    assert request.wire() == body
    assert list(request.wire()) == list(body)


def test_the_wire_names_are_those_of_the_document() -> None:
    assert built().wire() == {
        "name": "trainer",
        "imageId": "image",
        "instanceTypeId": "type",
        "region": "region",
        "billing": {"chargeMode": "perHour", "duration": 1},
        "remoteStorages": [
            {"mountPath": "/v", "remoteStorageName": "v", "remoteStorageId": "1", "type": "filesystem"}
        ],
        "instanceConfiguration": {
            "extraDataDiskSizeDB": 0,
            "enableCommonData": False,
            "enableDocker": False,
            "dockerStorageSize": 0,
            "initScript": "",
        },
        "isSpotInstance": False,
        "nodePorts": [22],
    }


def test_wire_names_are_read_and_python_names_are_not() -> None:
    body = good_body()
    body["image_id"] = body.pop("imageId")
    assert set(problems_of(body)) == {"imageId", "image_id"}
    assert set(problems_of(body, allow_unknown=True)) == {"imageId", "image_id"}


def test_python_names_are_built_and_wire_names_are_not() -> None:
    with pytest.raises(ValidationError, match="imageId"):
        built(imageId="image")


def test_building_holds_the_same_rules_and_hides_what_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"nodePorts|node_ports") as refusal:
        built(node_ports=[0, 22, 22], name="hunter2\n", is_spot_instance=1)
    text = str(refusal.value)
    assert "must be a whole number from 1 to 65535" in text
    assert "repeats the port 22" in text
    assert "hunter2" not in text


def test_wire_json_is_compact_and_keeps_chinese_readable() -> None:
    assert built(name="训练").wire_json().startswith('{"name":"训练","imageId":"image",')


def test_equal_requests_are_written_alike_whatever_the_order_of_their_fields() -> None:
    body = {**good_body(), "zone": {"b": 1, "a": [{"d": 1, "c": 2}]}, "alpha": 1}
    turned = json.loads(json.dumps(body, sort_keys=True))
    one, other = parse_request(body, allow_unknown=True), parse_request(turned, allow_unknown=True)
    assert one == other
    assert one.wire_json() == other.wire_json()


def test_a_left_out_default_equals_the_default_given() -> None:
    given = good_body()
    given["isSpotInstance"] = False
    left_out = good_body()
    del left_out["isSpotInstance"]
    assert parse_request(given) == parse_request(left_out)


@pytest.mark.parametrize("duration", [1, 1.0])
def test_a_whole_float_counts_as_the_whole_number(duration: float) -> None:
    body = good_body()
    body["billing"]["duration"] = duration
    body["nodePorts"] = [80.0, 81]
    text = parse_request(body).wire_json()
    assert '"duration":1}' in text
    assert '"nodePorts":[80,81]' in text


def test_disk_sizes_are_sent_as_given() -> None:
    body = good_body()
    body["instanceConfiguration"] |= {"extraDataDiskSizeDB": 0.5, "dockerStorageSize": 10**15}
    assert parse_request(body).wire()["instanceConfiguration"]["extraDataDiskSizeDB"] == 0.5
    assert '"dockerStorageSize":1000000000000000,' in parse_request(body).wire_json()


@pytest.mark.parametrize("mode", ["perDay", "perWeek", "perMonth"])
def test_longer_terms_take_any_positive_duration(mode: str) -> None:
    body = {**good_body(), "billing": {"chargeMode": mode, "duration": 36}}
    assert parse_request(body).billing.duration == 36


@pytest.mark.parametrize("script", ["", " ", "#!/bin/sh\n\techo 你好\r\n", "x" * 100_000])
def test_any_encodable_script_is_sent_as_it_is(script: str) -> None:
    body = good_body()
    body["instanceConfiguration"]["initScript"] = script
    assert parse_request(body).wire()["instanceConfiguration"]["initScript"] == script


def test_a_request_cannot_be_changed() -> None:
    request = parse_request(good_body())
    with pytest.raises(ValidationError):
        request.name = "other"  # type: ignore[misc]
    assert isinstance(request.node_ports, tuple)
    assert isinstance(request.remote_storages, tuple)
    assert request.wire() is not request.wire()
    assert isinstance(hash(request), int)


def test_changing_the_input_or_the_wire_body_does_not_reach_the_request() -> None:
    body = {**good_body(), "labels": {"team": ["a"]}}
    request = parse_request(body, allow_unknown=True)
    body["labels"]["team"].append("b")
    request.wire()["labels"]["team"].append("c")
    assert request.wire()["labels"] == {"team": ["a"]}


def test_a_request_survives_pickling_with_its_unlisted_fields() -> None:
    request = parse_request({**good_body(), "zone": 1}, allow_unknown=True)
    again = pickle.loads(pickle.dumps(request))
    assert again == request
    assert again.wire_json() == request.wire_json()


@given(st.data())
def test_whatever_requests_share_each_is_written_as_it_is(data: st.DataObject) -> None:
    """Parts that requests have in common are written once; what each of them says must not depend on that."""
    made = [parse_request(data.draw(bodies)), parse_request(good_body() | {"later": [1]}, allow_unknown=True)]
    for number in range(data.draw(st.integers(1, 8))):
        one = data.draw(st.sampled_from(made))
        change: dict[str, Any] = data.draw(
            st.sampled_from(
                [
                    {"name": f"n{number}"},
                    {"region": "other"},
                    {"is_spot_instance": not one.is_spot_instance},
                    {"node_ports": [number]},
                    {"billing": made[0].billing},
                ]
            )
        )
        made.append(one.model_copy(update=change))
    for _ in range(2):
        for one in made:
            expected = json.dumps(one.wire(), ensure_ascii=False, separators=(",", ":"))
            assert one.wire_json() == expected
            if isinstance(one.node_ports, list):
                one.node_ports.append(7)  # nobody should, and yet
            if one.model_extra:
                one.model_extra["later"].append(7)


def test_renaming_keeps_everything_else() -> None:
    request = parse_request({**good_body(), "zone": 1}, allow_unknown=True)
    assert request.renamed("other").wire() == {**request.wire(), "name": "other"}
    assert request.name == "trainer"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\ud800"])
def test_renaming_to_a_name_that_cannot_be_sent_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^name: "):
        parse_request(good_body()).renamed(name)


def test_no_text_form_of_a_request_shows_its_script_or_unlisted_fields() -> None:
    body = {**good_body(), "zone": "hunter2"}
    body["instanceConfiguration"]["initScript"] = "export PASSWORD=hunter2"
    request = parse_request(body, allow_unknown=True)
    for shown in (repr(request), str(request), repr(request.instance_configuration), f"{[request]}"):
        assert "hunter2" not in shown
    assert "trainer" in repr(request)


def test_no_refusal_shows_the_script_or_a_long_value() -> None:
    body = good_body()
    body["instanceConfiguration"]["initScript"] = {"run": "hunter2"}
    body["billing"]["chargeMode"] = "hunter2" * 100
    body["nodePorts"] = ["hunter2"]
    body["x" * 5000] = "hunter2"
    text = "\n".join(problems_of(body).values())
    assert "hunter2" not in text
    assert len(text) < 2000


def test_a_refusal_carries_no_input_in_its_causes() -> None:
    body = good_body()
    body["instanceConfiguration"]["initScript"] = ["hunter2"]
    with pytest.raises(InputError) as refusal:
        parse_request(body)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


def test_redacting_hides_the_script_and_leaves_the_body_alone() -> None:
    body = good_body()
    assert redacted(body) == body
    body["instanceConfiguration"]["initScript"] = "x" * 120
    assert redacted(body)["instanceConfiguration"]["initScript"] == "(hidden, 120 characters)"
    assert body["instanceConfiguration"]["initScript"] == "x" * 120
    assert redacted({"instanceConfiguration": {"initScript": ["x"]}}) == {
        "instanceConfiguration": {"initScript": "(hidden)"}
    }
    assert redacted({"instanceConfiguration": None}) == {"instanceConfiguration": None}


def test_differences_are_named_by_path_and_never_by_value() -> None:
    old, new = good_body(), good_body()
    assert request_differences(old, new) == ()
    new["billing"]["duration"] = 2
    new["nodePorts"] = [7891, 7892, 7893]
    new["remoteStorages"][0]["mountPath"] = "/other"
    new["instanceConfiguration"]["initScript"] = "hunter2"
    new["isSpotInstance"] = 0
    new["zone"] = None
    del new["region"]
    assert set(request_differences(old, new)) == {
        "billing.duration",
        "nodePorts[2]",
        "remoteStorages[0].mountPath",
        "instanceConfiguration.initScript",
        "isSpotInstance",
        "zone",
        "region",
    }


@pytest.mark.parametrize("data", [None, True, 3, 1.5, "text", [], (), b"x", object()])
def test_anything_but_an_object_is_refused_saying_what_was_found(data: object) -> None:
    assert "not a request body" in problems_of(data)[""]


def test_every_problem_names_where_it_is() -> None:
    with pytest.raises(InputError) as refusal:
        parse_request({}, where="fleet.json, entry 3")
    assert {problem.where for problem in refusal.value.problems} == {"fleet.json, entry 3"}
    assert str(refusal.value.problems[0]).startswith("fleet.json, entry 3: name: ")


def test_all_problems_are_told_at_once() -> None:
    body = good_body()
    body["nodePorts"] = [0, "22", 80, 80]
    body["billing"] = {"chargeMode": "perhour", "duration": "1", "zone": 1}
    body["remoteStorages"].append("volume")
    body["IsSpotInstance"] = True
    del body["name"]
    assert set(problems_of(body)) == {
        "name",
        "billing.chargeMode",
        "billing.duration",
        "billing.zone",
        "remoteStorages[1]",
        "nodePorts[0]",
        "nodePorts[1]",
        "nodePorts[3]",
        "IsSpotInstance",
    }


@pytest.mark.parametrize(
    ("path", "key", "meant"),
    [
        ((), "nodePort", "nodePorts"),
        ((), "isSpotInstances", "isSpotInstance"),
        ((), "is_spot_instance", "isSpotInstance"),
        ((), "IMAGEID", "imageId"),
        (("instanceConfiguration",), "extraDataDiskSizeGB", "extraDataDiskSizeDB"),
        (("instanceConfiguration",), "extraDataDiskSize", "extraDataDiskSizeDB"),
        (("instanceConfiguration",), "docker-storage-size", "dockerStorageSize"),
        (("billing",), "durations", "duration"),
        (("remoteStorages", 0), "mountpath", "mountPath"),
    ],
)
def test_a_misspelling_is_refused_even_where_unlisted_fields_are_allowed(
    path: tuple[Any, ...], key: str, meant: str
) -> None:
    body = good_body()
    holder: Any = body
    for step in path:
        holder = holder[step]
    holder[key] = 1
    (text,) = problems_of(body, allow_unknown=True).values()
    assert f'did you mean "{meant}"?' in text


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 10**5000, {1, 2}, b"x", "\ud800", {"\ud800": 1}, {1: 2}, [object()], (1,)],
    ids=["nan", "inf", "huge", "set", "bytes", "surrogate", "surrogate-key", "number-key", "object", "tuple"],
)
def test_an_unlisted_field_that_json_cannot_hold_is_refused(value: object) -> None:
    (path,) = problems_of({**good_body(), "zone": {"inner": value}}, allow_unknown=True)
    assert path.startswith("zone.inner")


def test_endless_nesting_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    (text,) = problems_of({**good_body(), "zone": endless}, allow_unknown=True).values()
    assert f"no deeper than {MAX_UNKNOWN_DEPTH} levels" in text
    assert set(problems_of({**good_body(), "zone": 1, "name": endless}, allow_unknown=True)) == {"name"}


def test_keys_that_are_no_text_do_not_hide_other_problems() -> None:
    body: dict[Any, Any] = {**good_body(), 1: 2, "\ud800": 3, "nodePorts": [0]}
    for allow_unknown in (False, True):
        assert set(problems_of(body, allow_unknown=allow_unknown)) == {"", '"\\ud800"', "nodePorts[0]"}
