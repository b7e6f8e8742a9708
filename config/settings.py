"""Every setting: `LAUNCHQ_*` in the environment, then in `.env`, then the default.

`LAUNCHQ_X_FILE` names a file that holds the value of `LAUNCHQ_X`, so that secrets stay out of the environment.
An empty value is none, also against what `.env` says: container tools pass unset variables on as empty ones.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from config.addresses import KINDS, Address, addresses_in, kinds_in
from config.urls import is_local, split

PREFIX: Final = "LAUNCHQ_"

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class SettingsError(Exception):
    """A setting cannot be used. The text names the variable and what would be right, never a secret's value."""


@dataclass(frozen=True)
class Secret:
    """A text that is not shown: only `get_secret_value` tells it."""

    _text: str = field(repr=False)

    def __str__(self) -> str:
        return "**********"

    def get_secret_value(self) -> str:
        """The text itself."""
        return self._text


def seconds(value: Any) -> float:
    """`30`, `30s`, `10m`, `12h`, `7d` or `500ms`, in seconds; ValueError where it is none of these."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", str(value))
    if not match:
        raise ValueError("must be a length of time such as 30, 30s, 10m, 12h or 7d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def patience(value: Any) -> float:
    """A length of time, or `forever` (infinity)."""
    if str(value).strip().lower() in {"forever", "for ever"}:
        return math.inf
    return seconds(value)


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


def _one_word(text: str) -> str:
    # It travels in a header, as it is: RFC 6265, 4.1.1.
    if not re.fullmatch(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+", text):
        raise ValueError("must be one word, without quotes, commas, semicolons or characters outside ASCII")
    return text


def _any_url(url: str) -> str:
    for one in url.split(";"):  # several brokers, each standing in for the one before
        split(one)
    return url


def _redis_url(url: str) -> str:
    if split(url).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("must start with redis://, rediss:// or unix://")
    return url


def _api_url(url: str) -> str:
    parts = split(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL such as https://cloud.luchentech.com/api")
    if parts.username or parts.password:
        raise ValueError("must hold no user name or password; use LAUNCHQ_USERNAME and LAUNCHQ_PASSWORD")
    if parts.scheme == "http" and not is_local(parts.hostname):
        raise ValueError("must be https, since the token travels with every call; http is for localhost only")
    return url.rstrip("/")


def _traces(url: str) -> str:
    if url:
        parts = split(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be the URL of an OTLP collector over HTTP, such as http://127.0.0.1:4318")
        if parts.username or parts.password:
            raise ValueError("must hold no user name or password; use OTEL_EXPORTER_OTLP_HEADERS")
    return url.rstrip("/")


def _prefix(prefix: str) -> str:
    if not re.fullmatch(r"[\w.:-]{1,100}", prefix):
        raise ValueError("must be letters, digits, '_', '.', ':' or '-', at most 100")
    return prefix


def _patterns(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    patterns = tuple(line.strip() for line in value.splitlines() if line.strip())
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"must be regular expressions, one a line ({error})") from None
    return patterns


def _delays(value: Any) -> Any:
    """`5,15,45`: lengths of time, each longer than the one before."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        raise ValueError("must be lengths of time, separated by commas: 5,15,45")
    delays = tuple(seconds(part) for part in value)
    if not 0 < len(delays) <= 20 or delays[0] <= 0 or any(a >= b for a, b in pairwise(delays)):
        raise ValueError("must be 1 to 20 lengths of time above 0, each longer than the one before: 5,15,45")
    return delays


def _fernet_keys(text: str) -> str:
    # Fernet's own form: 32 bytes in URL-safe base64. Checked here by form alone, so that settings load no cryptography.
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{43}=", key) for key in _keys_in(text)):
        raise ValueError(
            "must be a Fernet key, or several separated by commas, the newest first; `launchq auth new-key` makes one"
        )
    return text


def _addresses(text: str) -> str:
    addresses_in(text)
    return text


def _kinds(value: Any) -> Any:
    return kinds_in(value) if isinstance(value, str) else value


def _keys_in(text: str) -> tuple[str, ...]:
    return tuple(key.strip() for key in text.split(","))


def _rate(value: Any) -> Any:
    """`10/s`, `600/m`, `0.5/s`, or `0` for no limit, as calls a second."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*(s|m|h))?\s*", str(value))
    if not match or (match[2] is None and float(match[1]) != 0):
        raise ValueError("must be a number of calls in a time, such as 10/s or 600/m, or 0 for no limit")
    return float(match[1]) / _UNITS[match[2] or "s"]


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("must be the name of a time zone, such as Asia/Shanghai or UTC") from None
    return name


def _text(check: Callable[[str], str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("must be text")
        return check(value)

    return read


def _secret(check: Callable[[str], str]) -> Callable[[Any], Secret]:
    def read(value: Any) -> Secret:
        return Secret(_text(check)(value.get_secret_value() if isinstance(value, Secret) else value))

    return read


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not re.fullmatch(r"\s*\d{1,9}\s*", str(value)):
            raise ValueError(f"must be a whole number from {least} to {most}")
        number = int(value)
        if not least <= number <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return number

    return read


def _number(
    read: Callable[[Any], float], *, zero: bool = False, most: float = math.inf
) -> Callable[[Any], float]:
    """What `read` makes of a value, within its limits; 0 itself only where it is allowed."""

    def read_within(value: Any) -> float:
        number = read(value)
        if not 0 <= number < math.inf or (number == 0 and not zero):
            raise ValueError("must be 0 or more" if zero else "must be more than 0")
        if number > most:
            raise ValueError(f"must be at most {most:g}")
        return number

    return read_within


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be {' or '.join(map(repr, words))}")
        return str(value)

    return read


def _setting(default: Any, read: Callable[[Any], Any], *, shown: bool = True) -> Any:
    return field(default=default, repr=shown, metadata={"read": read})


@dataclass(frozen=True)
class Settings:
    """The settings, frozen. Times are in seconds. Secrets and URLs (they may hold passwords) are not in `repr`.

    A value may be given as it is, or as text in the form that it has in the environment. SettingsError lists everything that is wrong, a
    line each.
    """

    redis_url: str = _setting("redis://127.0.0.1:6379/0", _text(_redis_url), shown=False)
    broker_url: str = _setting("", _text(_any_url), shown=False)
    prefix: str = _setting("launchq", _text(_prefix))
    api_url: str = _setting("https://cloud.luchentech.com/api", _text(_api_url))
    access_token: Secret | None = _setting(None, _secret(_one_word))
    username: str = _setting("", _text(str))
    password: Secret | None = _setting(None, _secret(_one_line))
    api_key: Secret | None = _setting(None, _secret(_one_word))
    secret_key: Secret | None = _setting(None, _secret(_fernet_keys))
    request_timeout: float = _setting(30.0, _number(seconds, most=600))
    concurrency: int = _setting(100, _whole(1, 10_000))
    rate_limit: float = _setting(10.0, _number(_rate, zero=True, most=100_000))
    max_attempts: int = _setting(8, _whole(1, 1000))
    backoff_base: float = _setting(1.0, _number(seconds))
    backoff_cap: float = _setting(60.0, _number(seconds))
    capacity_interval: float = _setting(30.0, _number(seconds))
    stock: Literal["on", "off"] = _setting("on", _one_of("on", "off"))
    capacity_messages: tuple[str, ...] = _setting((), _patterns)
    balance_messages: tuple[str, ...] = _setting((), _patterns)
    verify_delays: tuple[float, ...] = _setting((5.0, 15.0, 45.0), _delays)
    shift_seconds: float = _setting(30.0, _number(seconds))
    retention: float = _setting(7 * 86400.0, _number(seconds))
    timezone: str = _setting("Asia/Shanghai", _text(_timezone))
    notify: Secret | None = _setting(None, _secret(_addresses))
    notify_on: tuple[str, ...] = _setting(KINDS, _kinds)
    log_format: Literal["text", "json"] = _setting("text", _one_of("text", "json"))
    traces: str = _setting("", _text(_traces), shown=False)

    def __post_init__(self) -> None:
        problems = []
        for one in fields(self):
            given = getattr(self, one.name)
            if given is one.default:
                continue
            try:
                object.__setattr__(self, one.name, one.metadata["read"](given))
            except ValueError as error:
                problems.append(f"{PREFIX}{one.name.upper()}: {error}")
        if problems:
            raise SettingsError("\n".join(problems))

    @property
    def broker(self) -> str:
        """Where Celery's messages go: the ledger's Redis unless another place is named."""
        return self.broker_url or self.redis_url

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The keys that secrets are sealed with in Redis, the newest first; empty where they are not."""
        return _keys_in(self.secret_key.get_secret_value()) if self.secret_key else ()

    @property
    def notify_addresses(self) -> tuple[Address, ...]:
        """Where notifications go; empty: nowhere."""
        return addresses_in(self.notify.get_secret_value()) if self.notify else ()

    @property
    def can_log_in(self) -> bool:
        """Whether user name and password are set."""
        return bool(self.username and self.password)


_FIELD_OF: Final = {PREFIX + one.name.upper(): one.name for one in fields(Settings)}


def load(environment: Mapping[str, str] | None = None, *, env_file: str | Path = ".env") -> Settings:
    """The settings of this process. SettingsError lists everything that is wrong, a line each."""
    values, problems = _read(environment, Path(env_file))
    try:
        settings = Settings(**values)
    except SettingsError as error:
        problems.append(str(error))
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def is_given(
    name: str, environment: Mapping[str, str] | None = None, *, env_file: str | Path = ".env"
) -> bool:
    """Whether this setting, a field of `Settings`, has a value other than by default."""
    values, _ = _read(environment, Path(env_file))
    return name in values


def unknown_names(
    environment: Mapping[str, str] | None = None, *, env_file: str | Path = ".env"
) -> list[str]:
    """Variables that look like settings and are none: most likely misspelled."""
    names = {name for layer in _layers(environment, Path(env_file)) for name in layer}
    known = {*_FIELD_OF, *(name + "_FILE" for name in _FIELD_OF)}
    return sorted(name for name in names - known if name.startswith(PREFIX))


def without_password(url: str) -> str:
    """A URL that can be shown: its password, if any, is replaced by `***`."""
    url = re.sub(r"([?&](?:ssl_)?password=)[^&#]*", r"\1***", url)
    parts = urlsplit(url)
    if not parts.password:
        return url
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***{at}{host}"))


def _layers(environment: Mapping[str, str] | None, env_file: Path) -> list[Mapping[str, str | None]]:
    """Where settings are looked for, the strongest first."""
    if environment is not None:
        return [environment]
    if not env_file.is_file():
        return [os.environ]
    from dotenv import dotenv_values

    return [os.environ, dotenv_values(env_file, interpolate=False)]


def _read(environment: Mapping[str, str] | None, env_file: Path) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, str] = {}
    problems: list[str] = []
    for layer in _layers(environment, env_file):
        for variable, name in _FIELD_OF.items():
            if name in values or not {variable, variable + "_FILE"} & layer.keys():
                continue
            # Within a layer, what is set outright wins over a file: one command can then override a container.
            value, file = layer.get(variable), layer.get(variable + "_FILE")
            if not value and file:
                try:
                    value = Path(file).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    why = getattr(error, "strerror", None) or "not UTF-8 text"
                    problems.append(f"{variable}_FILE: cannot read {file}: {why}")
            # An empty value is none, also against a weaker layer: so one command can do without what .env says.
            values[name] = value or ""
    return {name: value for name, value in values.items() if value}, problems
