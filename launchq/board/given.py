"""What routes are given, and how it is checked: parameters, inputs, confirmations; and the errors that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from config import seconds
from launchq.board.context import Board
from launchq.board.problems import MEDIA_TYPE, NotConfirmedError
from launchq.inputs import Inputs, read_inputs
from tasks.plan import Group, why_ask
from tasks.policy import LONGEST as LONGEST_TIME

_WRONG: dict[int, str] = {
    401: "A token is needed.",
    403: "The token may read only, or another site's page asked.",
    404: "There is no such thing.",
    409: "Refused in its present state; nothing was changed.",
    413: "The body is too large.",
    415: "The body's type is not said.",
    421: "Not this machine's own name, and the board takes no tokens.",
    422: "The input cannot be used; nothing was launched.",
    428: "To be confirmed; nothing was launched.",
    429: "Too many.",
    503: "Redis is out of reach.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers with these statuses, as OpenAPI describes them."""
    return {
        status: {
            "description": _WRONG[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in statuses
    }


ALWAYS = (401, 403, 413, 415, 421, 422, 429, 503)
"""Statuses that every route may answer with."""


def length(value: str) -> str:
    """A length of time that can be used. ValueError where it cannot."""
    if seconds(value) > LONGEST_TIME:
        raise ValueError("is longer than ten years")
    return value


def printable(value: str | None) -> str | None:
    """ValueError where there is something in it that cannot be printed."""
    if value is not None and not value.isprintable():
        raise ValueError("must be printable characters")
    return value


Name = Annotated[str, AfterValidator(printable)]


class Parameters(BaseModel):
    """Parameters of a request. One that is not known is an error: a slip here costs money."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class PlanParameters(Parameters):
    """How an input is read."""

    count: int = Field(1, ge=1, le=100_000, description="Copies of each entry, named NAME-01, NAME-02, ...")
    allow_unknown_fields: bool = Field(
        False, description="Send fields that the cloud's document does not list."
    )


INPUT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "What `launchq submit FILE` takes, as it is: a body exported by the console, a JSON array or JSON lines of "
        "bodies, a fleet file in YAML or JSON, CSV, or a pasted curl command. Told apart by content; any Content-Type will do "
        "that a web form cannot send.",
        "content": {
            "application/json": {"schema": {}},
            "application/yaml": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


async def _text(request: Request) -> bytes:
    return await request.body()


Text = Annotated[bytes, Depends(_text)]


def read(text: bytes, parameters: PlanParameters) -> Inputs:
    """The input of a request. InputError with all that is wrong."""
    return read_inputs([("body", text)], parameters.count, parameters.allow_unknown_fields)


def warnings_of(board: Board, inputs: Inputs, *, unique_names: bool) -> list[str]:
    """What is no error, but not to be overlooked."""
    found = inputs.warnings(board.settings.api_url, token_used=True, unique_names=unique_names)
    if any(intake.token for intake in inputs.intakes):
        found.append("the access token of the curl command is not used")
    return found


def must_be_confirmed(groups: Sequence[Group], given: int | None) -> None:
    """NotConfirmedError where this would cost much and `given` is not its number."""
    total = sum(group.count for group in groups)
    if (reason := why_ask(groups)) and given != total:
        raise NotConfirmedError(reason, total)
