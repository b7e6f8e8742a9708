"""The rules for the body of ``POST /instance/create``, from the field tables of the API's page of that call.

The page documents one message, for a field that is not set. The texts for wrong values are our own.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

HOURLY = ("tidePerHour", "perHour")
SUBSCRIPTIONS = ("perDay", "perWeek", "perMonth")

_TYPE_NAMES = {str: "字符串", bool: "布尔值", dict: "对象", list: "数组"}

Check = Callable[[Any, str], str | None]
"""Takes a value and its path, gives a message or None."""


def create_body_error(body: Mapping[str, Any]) -> str | None:
    """The cloud's message about the first thing wrong with ``body``, or None. Unknown fields are ignored."""
    return _fields_error(body, "", _TOP_REQUIRED, required=True) or _fields_error(
        body, "", _TOP_OPTIONAL, required=False
    )


def _fields_error(
    value: Mapping[str, Any], prefix: str, checks: Mapping[str, Check], *, required: bool
) -> str | None:
    for name, check in checks.items():
        path = prefix + name
        field = value.get(name)
        if field is None:
            if required:
                return f'字段 "{path}" 未设置'
            continue
        if error := check(field, path):
            return error
    return None


def _typed(expected: type) -> Check:
    def check(value: Any, path: str) -> str | None:
        if not isinstance(value, expected):
            return f'字段 "{path}" 类型错误,应为{_TYPE_NAMES[expected]}'
        return None

    return check


def _filled(value: Any, path: str) -> str | None:
    return _typed(str)(value, path) or (None if value.strip() else f'字段 "{path}" 不能为空')


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _gigabytes(value: Any, path: str) -> str | None:
    if not _is_number(value):
        return f'字段 "{path}" 类型错误,应为数字'
    return None if value >= 0 else f'字段 "{path}" 不能为负数'


def _charge_mode(value: Any, path: str) -> str | None:
    if value in HOURLY + SUBSCRIPTIONS:
        return None
    return f'字段 "{path}" 取值无效,应为 {"、".join(HOURLY + SUBSCRIPTIONS)} 之一'


def _duration(value: Any, path: str) -> str | None:
    if not _is_number(value):
        return f'字段 "{path}" 类型错误,应为数字'
    return None if value >= 1 and value == int(value) else f'字段 "{path}" 取值无效,应为正整数'


def _billing(value: Any, path: str) -> str | None:
    if error := _typed(dict)(value, path) or _fields_error(value, f"{path}.", _BILLING, required=True):
        return error
    if value["chargeMode"] in HOURLY and value["duration"] != 1:
        return f'字段 "{path}.duration" 取值无效,计费模式为 {value["chargeMode"]} 时应为 1'
    return None


def _remote_storages(value: Any, path: str) -> str | None:
    if error := _typed(list)(value, path):
        return error
    for index, storage in enumerate(value):
        where = f"{path}[{index}]"
        if error := _typed(dict)(storage, where) or _fields_error(
            storage, f"{where}.", _STORAGE, required=True
        ):
            return error
    return None


def _instance_configuration(value: Any, path: str) -> str | None:
    return (
        _typed(dict)(value, path)
        or _fields_error(value, f"{path}.", _CONFIGURATION_REQUIRED, required=True)
        or _fields_error(value, f"{path}.", _CONFIGURATION_OPTIONAL, required=False)
    )


def _node_ports(value: Any, path: str) -> str | None:
    if error := _typed(list)(value, path):
        return error
    for index, port in enumerate(value):
        if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65_535:
            return f'字段 "{path}[{index}]" 取值无效,端口应为 1 到 65535 之间的整数'
    return None


_BILLING: dict[str, Check] = {"chargeMode": _charge_mode, "duration": _duration}
_STORAGE: dict[str, Check] = dict.fromkeys(
    ("mountPath", "remoteStorageName", "remoteStorageId", "type"), _filled
)
_CONFIGURATION_REQUIRED: dict[str, Check] = {
    "enableCommonData": _typed(bool),
    "enableDocker": _typed(bool),
    "initScript": _typed(str),  # may be empty
}
_CONFIGURATION_OPTIONAL: dict[str, Check] = {
    "extraDataDiskSizeDB": _gigabytes,  # the wire's spelling; the unit is GB
    "dockerStorageSize": _gigabytes,
}
_TOP_REQUIRED: dict[str, Check] = {
    "name": _filled,
    "imageId": _filled,
    "instanceTypeId": _filled,
    "region": _filled,
    "billing": _billing,
    "remoteStorages": _remote_storages,  # may be empty
    "instanceConfiguration": _instance_configuration,
    "nodePorts": _node_ports,  # may be empty
}
_TOP_OPTIONAL: dict[str, Check] = {"isSpotInstance": _typed(bool)}
