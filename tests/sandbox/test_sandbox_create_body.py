"""The rules of the create body, against the API's page of that call."""

import copy
import json
from typing import Any

import pytest

from sandbox.create_body import create_body_error
from sandbox_world import BODY_EXAMPLE, CURL_EXAMPLE

REQUIRED = [
    "name",
    "imageId",
    "instanceTypeId",
    "region",
    "billing",
    "billing.chargeMode",
    "billing.duration",
    "remoteStorages",
    "remoteStorages[0].mountPath",
    "remoteStorages[0].remoteStorageName",
    "remoteStorages[0].remoteStorageId",
    "remoteStorages[0].type",
    "instanceConfiguration",
    "instanceConfiguration.enableCommonData",
    "instanceConfiguration.enableDocker",
    "instanceConfiguration.initScript",
    "nodePorts",
]


def holder(body: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The object that holds the field at ``path``, and the field's name."""
    place: Any = body
    *parents, field = path.replace("[0]", ".0").split(".")
    for parent in parents:
        place = place[int(parent) if parent.isdigit() else parent]
    return place, field


def example_with(path: str, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(BODY_EXAMPLE)
    place, field = holder(body, path)
    place[field] = value
    return body


@pytest.mark.parametrize("example", [BODY_EXAMPLE, json.loads(CURL_EXAMPLE)], ids=["body", "curl"])
def test_the_documented_examples_are_valid(example: dict[str, Any]) -> None:
    assert create_body_error(example) is None


@pytest.mark.parametrize("path", REQUIRED)
def test_a_missing_required_field_is_named(path: str) -> None:
    body = copy.deepcopy(BODY_EXAMPLE)
    place, field = holder(body, path)
    del place[field]
    assert create_body_error(body) == f'字段 "{path}" 未设置'


@pytest.mark.parametrize("path", REQUIRED)
def test_null_is_not_set(path: str) -> None:
    assert create_body_error(example_with(path, None)) == f'字段 "{path}" 未设置'


@pytest.mark.parametrize(
    "path",
    [
        "isSpotInstance",
        "instanceConfiguration.extraDataDiskSizeDB",
        "instanceConfiguration.dockerStorageSize",
    ],
)
def test_an_optional_field_may_be_missing(path: str) -> None:
    body = copy.deepcopy(BODY_EXAMPLE)
    place, field = holder(body, path)
    del place[field]
    assert create_body_error(body) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", 7),
        ("name", ""),
        ("imageId", " "),
        ("region", []),
        ("billing", "perHour"),
        ("billing.chargeMode", "perYear"),
        ("billing.chargeMode", 1),
        ("billing.duration", 0),
        ("billing.duration", -1),
        ("billing.duration", 1.5),
        ("billing.duration", "1"),
        ("billing.duration", True),
        ("billing.duration", float("inf")),
        ("billing.duration", 2),
        ("remoteStorages", {}),
        ("remoteStorages[0].mountPath", 1),
        ("instanceConfiguration", []),
        ("instanceConfiguration.enableDocker", "false"),
        ("instanceConfiguration.enableCommonData", 0),
        ("instanceConfiguration.initScript", False),
        ("instanceConfiguration.dockerStorageSize", -1),
        ("instanceConfiguration.extraDataDiskSizeDB", "50"),
        ("isSpotInstance", "no"),
        ("nodePorts", "80"),
    ],
)
def test_a_wrong_value_is_named(path: str, value: Any) -> None:
    message = create_body_error(example_with(path, value))
    assert message is not None
    assert message.startswith(f'字段 "{path}" ')
    assert "未设置" not in message


@pytest.mark.parametrize("port", [0, 65_536, -1, "80", 80.5, True])
def test_a_wrong_port_is_named(port: Any) -> None:
    message = create_body_error(example_with("nodePorts", [22, port]))
    assert message is not None
    assert message.startswith('字段 "nodePorts[1]" ')


@pytest.mark.parametrize(
    ("mode", "duration", "valid"),
    [
        ("tidePerHour", 1, True),
        ("tidePerHour", 2, False),
        ("perHour", 3, False),
        ("perDay", 3, True),
        ("perWeek", 3, True),
        ("perMonth", 12, True),
    ],
)
def test_hourly_modes_last_one_and_subscriptions_any_number(mode: str, duration: int, valid: bool) -> None:
    body = example_with("billing", {"chargeMode": mode, "duration": duration})
    assert (create_body_error(body) is None) == valid
