"""The control API under ``/sandbox``: tests and users in other processes steer the cloud and compare.

=====  ======================  ==========================================================================
GET    /sandbox/state          counts of calls, outcomes, faults, instances, logins
GET    /sandbox/instances      ``{"instances": [...]}``, oldest first; ``?name=`` for one name
GET    /sandbox/requests       ``{"requests": [...]}``, every create call that arrived; ``?name=``
POST   /sandbox/faults         ``script``: list of faults (text, or ``{"fault", "times", "name", "endpoint"}``),
                               ``rates``: probabilities by fault for any call of ``endpoint`` (else create),
                               ``clear``: true drops all those before
POST   /sandbox/refuse         ``seconds``: refuse for so long; ``listening``: false or true; ``share`` of the
                               time, with ``window`` in seconds
POST   /sandbox/tokens         mint a token, ``life`` in seconds; answers like the login
POST   /sandbox/revoke         end all tokens; ``{"revoked": n}``
POST   /sandbox/credentials    set ``username`` and ``password``
POST   /sandbox/capacity       set ``free`` places (null: no limit) of ``region``, ``instanceTypeId``, ``isSpotInstance``
POST   /sandbox/settings       set ``balance``, ``latency``, ``listDelay``, ``bootTime``, ``tokenLife``
=====  ======================  ==========================================================================

Wrong input is answered with 400 and ``{"error": text}``; nothing but what is set changes.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from sandbox.answers import json_answer
from sandbox.cloud import Cloud
from sandbox.instances import Lane
from sandbox.listener import Listener

CONTROL_PATH = "/sandbox"


class Control:
    """Answers the control API for one cloud and its front door."""

    def __init__(self, cloud: Cloud, listener: Listener) -> None:
        self._cloud = cloud
        self._listener = listener
        self._routes: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", "state"): self._state,
            ("GET", "instances"): self._instances,
            ("GET", "requests"): self._requests,
            ("POST", "faults"): self._faults,
            ("POST", "refuse"): self._refuse,
            ("POST", "tokens"): self._tokens,
            ("POST", "revoke"): self._revoke,
            ("POST", "credentials"): self._credentials,
            ("POST", "capacity"): self._capacity,
            ("POST", "settings"): self._settings,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request below ``/sandbox/``."""
        action = self._routes.get((request.method, request.path.removeprefix(f"{CONTROL_PATH}/")))
        if action is None:
            return json_answer(
                {"error": f"no such control call: {request.method} {request.path}"}, 404
            ).response()
        try:
            arguments = (
                request.query if request.method == "GET" else json.loads(await request.read() or b"{}")
            )
            if not isinstance(arguments, Mapping):
                raise TypeError("the body must be a JSON object")
            return json_answer(action(arguments)).response()
        except KeyError as error:
            return json_answer({"error": f"{error.args[0]} is missing"}, 400).response()
        except (TypeError, ValueError) as error:
            return json_answer({"error": str(error)}, 400).response()

    def _state(self, _: Mapping[str, Any]) -> Any:
        return self._cloud.state() | {"connections": self._listener.connections}

    def _instances(self, query: Mapping[str, Any]) -> Any:
        name = query.get("name")
        return {
            "instances": [i.as_json() for i in self._cloud.instances.all() if name is None or i.name == name]
        }

    def _requests(self, query: Mapping[str, Any]) -> Any:
        name = query.get("name")
        return {"requests": [r.as_json() for r in self._cloud.requests if name is None or r.name == name]}

    def _faults(self, body: Mapping[str, Any]) -> Any:
        plan = self._cloud.faults
        if body.get("clear"):
            plan.clear()
        if "rates" in body:
            plan.set_rates(body["rates"], body.get("endpoint", "create"))
        for entry in body.get("script", ()):
            rule = {"fault": entry} if isinstance(entry, str) else dict(entry)
            plan.script(rule.pop("fault"), **rule)
        return {"faultsScripted": plan.scripted, "faultRates": plan.rates}

    def _refuse(self, body: Mapping[str, Any]) -> Any:
        if "share" in body:
            self._listener.refuse(float(body["share"]), float(body.get("window", 0.02)))
        if "listening" in body:
            (self._listener.resume if body["listening"] else self._listener.pause)()
        if "seconds" in body:
            self._listener.refuse_for(float(body["seconds"]))
        return {"refusing": self._listener.refusing}

    def _tokens(self, body: Mapping[str, Any]) -> Any:
        life = body.get("life")
        return self._cloud.tokens.mint(None if life is None else float(life)).as_json()

    def _revoke(self, _: Mapping[str, Any]) -> Any:
        return {"revoked": self._cloud.tokens.revoke()}

    def _credentials(self, body: Mapping[str, Any]) -> Any:
        self._cloud.tokens.username = str(body.get("username", self._cloud.tokens.username))
        self._cloud.tokens.password = str(body.get("password", self._cloud.tokens.password))
        return {"username": self._cloud.tokens.username}

    def _capacity(self, body: Mapping[str, Any]) -> Any:
        lane = Lane(body["region"], body["instanceTypeId"], bool(body.get("isSpotInstance", False)))
        free = body["free"]
        self._cloud.instances.set_capacity(lane, None if free is None else int(free))
        return {"free": self._cloud.instances.free.get(lane)}

    def _settings(self, body: Mapping[str, Any]) -> Any:
        values = {name: float(value) for name, value in body.items()}
        if unknown := values.keys() - {"balance", "latency", "listDelay", "bootTime", "tokenLife"}:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        cloud = self._cloud
        cloud.balance = values.get("balance", cloud.balance)
        cloud.latency = values.get("latency", cloud.latency)
        cloud.list_delay = values.get("listDelay", cloud.list_delay)
        cloud.boot_time = values.get("bootTime", cloud.boot_time)
        cloud.tokens.life = values.get("tokenLife", cloud.tokens.life)
        return {}
