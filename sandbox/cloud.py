"""The simulated cloud: what each call does, and a record of everything that arrived."""

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from aiohttp import web

from sandbox import answers
from sandbox.answers import Answer, html_error, json_answer
from sandbox.breakage import BREAKING, break_connection
from sandbox.catalogue import catalogue
from sandbox.create_body import create_body_error
from sandbox.faults import Fault, FaultPlan, parse_option
from sandbox.instances import InstanceBook
from sandbox.options import CloudOptions
from sandbox.tokens import TokenOffice

BASE_PATH = "/api"


@dataclass(slots=True)
class CreateRequest:
    """One create call that arrived. ``at`` is in seconds of the epoch; no credentials are kept."""

    number: int
    """From 1, in the order of arrival."""
    at: float
    raw: bytes
    body: Any
    """The parsed JSON; None where it is not JSON."""
    outcome: str = "nothing"
    """What the cloud did: created, rejected, unauthorized, sold-out, no-balance, throttled, or nothing."""
    fault: str = ""
    """The fault that the call met, if any."""
    instance_id: str | None = None

    @property
    def name(self) -> str | None:
        """The instance name asked for."""
        name = self.body.get("name") if isinstance(self.body, dict) else None
        return name if isinstance(name, str) else None

    def as_json(self) -> dict[str, Any]:
        """The call as the control API shows it; the raw body only where it could not be read."""
        shown = {
            "number": self.number,
            "at": self.at,
            "name": self.name,
            "body": self.body,
            "outcome": self.outcome,
            "fault": self.fault,
            "instanceId": self.instance_id,
        }
        if self.body is None:
            shown["raw"] = self.raw.decode(errors="replace")
        return shown


class Cloud:
    """The cloud behind the sockets. Its parts may be read and steered directly from the same event loop."""

    def __init__(self, options: CloudOptions | None = None) -> None:
        options = options or CloudOptions()
        self.options = options
        self.latency = options.latency
        self.list_delay = options.list_delay
        self.boot_time = options.boot_time
        self.balance = options.balance
        self.tokens = TokenOffice(
            options.username,
            options.password,
            life=options.token_life,
            api_keys=options.api_keys,
            single_session=options.single_session,
        )
        self.instances = InstanceBook()
        self.faults = FaultPlan(options.seed)
        self._script_options(options.faults)
        self.requests: list[CreateRequest] = []
        self.calls: Counter[str] = Counter()
        """Calls that arrived, by endpoint."""
        self.faults_met: Counter[str] = Counter()
        self.creates_in_flight = 0
        self.peak_creates_in_flight = 0
        self.stopping = asyncio.Event()
        self._routes: dict[tuple[str, str], tuple[str, Callable[[Any], Answer]]] = {
            ("POST", f"{BASE_PATH}/user/login"): ("login", self._login),
            ("POST", f"{BASE_PATH}/instance/list"): ("list", self._list),
            ("POST", f"{BASE_PATH}/instance/stop"): ("stop", self._stop),
            ("POST", f"{BASE_PATH}/instance/terminate"): ("terminate", self._terminate),
            ("POST", f"{BASE_PATH}/resource/user/instance/list"): ("catalogue", self._catalogue),
            ("GET", f"{BASE_PATH}/balance"): ("balance", self._balance),
        }

    def state(self) -> dict[str, Any]:
        """Counts of everything so far."""
        return {
            "calls": dict(self.calls),
            "creates": len(self.requests),
            "outcomes": dict(Counter(request.outcome for request in self.requests)),
            "faults": dict(self.faults_met),
            "faultsScripted": self.faults.scripted,
            "faultRates": self.faults.rates,
            "instances": len(self.instances),
            "names": len(self.instances.names()),
            "logins": {"ok": self.tokens.logins_ok, "refused": self.tokens.logins_refused},
            "createsInFlight": self.creates_in_flight,
            "peakCreatesInFlight": self.peak_creates_in_flight,
            "balance": self.balance,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request below the base path, or break its connection."""
        transport = request.transport
        try:
            raw = await request.read()
        except ConnectionError:
            return web.Response()  # the client went away inside its request: there was none
        body = _parse(raw)
        create = request.method == "POST" and request.path == f"{BASE_PATH}/instance/create"
        if create:
            self.creates_in_flight += 1
            self.peak_creates_in_flight = max(self.peak_creates_in_flight, self.creates_in_flight)
        try:
            answer, fault = self._create(request, raw, body) if create else self._call(request, body)
            if self.latency > 0:
                await asyncio.sleep(self.latency)
            if fault is not None and fault.kind in BREAKING:
                if transport is not None:
                    await break_connection(transport, fault, answer, self.stopping)
                return web.Response()  # aiohttp finds the connection closed and drops it
            return (answer or json_answer(None)).response()
        finally:
            if create:
                self.creates_in_flight -= 1

    def _create(self, request: web.BaseRequest, raw: bytes, body: Any) -> tuple[Answer | None, Fault | None]:
        self.calls["create"] += 1
        record = CreateRequest(len(self.requests) + 1, time.time(), raw, body)
        self.requests.append(record)
        if not self._admits(request):
            record.outcome = "unauthorized"
            return self._not_logged_in(), None
        fault = self.faults.pick("create", record.name)
        if fault is None:
            return self._buy(record), None
        record.fault = fault.name
        self.faults_met[fault.name] += 1
        record.outcome = _OUTCOME_OF_FAULT.get(fault.kind, "nothing")
        done = self._buy(record) if fault.after else None
        return self._answer_of(fault) or done, fault

    def _buy(self, record: CreateRequest) -> Answer:
        """What a create call does when nothing goes wrong on its way."""
        record.outcome = "rejected"
        if not isinstance(record.body, dict):
            return self._error(answers.BAD_JSON)
        if message := create_body_error(record.body):
            return self._error(message)
        if self.balance <= 0:
            record.outcome = "no-balance"
            return self._error(answers.NO_BALANCE)
        instance = self.instances.create(record.body)
        if instance is None:
            record.outcome = "sold-out"
            return self._error(answers.SOLD_OUT)
        record.outcome = "created"
        record.instance_id = instance.instance_id
        return json_answer({"instanceId": instance.instance_id})

    def _call(self, request: web.BaseRequest, body: Any) -> tuple[Answer | None, Fault | None]:
        """Any call but create."""
        route = self._routes.get((request.method, request.path))
        if route is None:
            self.calls["unknown"] += 1
            return json_answer({"message": "404 page not found"}, 404), None
        endpoint, action = route
        self.calls[endpoint] += 1
        if endpoint != "login" and not self._admits(request):
            return self._not_logged_in(), None
        if body is None and request.method == "POST":
            return self._error(answers.BAD_JSON), None
        fault = self.faults.pick(endpoint)
        if fault is None:
            return action(body), None
        self.faults_met[fault.name] += 1
        done = action(body) if fault.after else None
        return self._answer_of(fault) or done, fault

    def _answer_of(self, fault: Fault) -> Answer | None:
        """The answer that a fault puts in the place of the real one, or None where it breaks the connection."""
        match fault.kind:
            case "status":
                return html_error(fault.status)
            case "429" | "429-date":
                answer = json_answer({"message": answers.TOO_MANY_REQUESTS}, 429)
                if fault.seconds is None:
                    return answer
                after = f"{fault.seconds:g}"
                if fault.kind == "429-date":
                    after = formatdate(math.ceil(time.time() + fault.seconds), usegmt=True)
                return Answer(429, answer.body, headers={"Retry-After": after})
            case "expired":
                return self._not_logged_in()
            case "sold-out":
                return self._error(answers.SOLD_OUT)
            case "message":
                return self._error(fault.text)
        return None

    def _admits(self, request: web.BaseRequest) -> bool:
        return self.tokens.admits(request.headers.get("Cookie"), request.headers.get("X-API-Key"))

    def _error(self, message: str) -> Answer:
        return json_answer({"message": message}, self.options.error_status)

    def _not_logged_in(self) -> Answer:
        return json_answer({"code": -1, "message": answers.NOT_LOGGED_IN}, self.options.auth_status)

    def _login(self, body: Any) -> Answer:
        token = self.tokens.login(_member(body, "username"), _member(body, "password"))
        return self._error(answers.WRONG_PASSWORD) if token is None else json_answer(token.as_json())

    def _list(self, body: Any) -> Answer:
        pager = _member(body, "pager")
        if not isinstance(pager, dict):
            return json_answer({"message": "internal error: pager is nil"}, 500)
        number, size = pager.get("currentPage"), pager.get("pageSize")
        if not (isinstance(number, int) and isinstance(size, int) and number >= 1 and size >= 1):
            return self._error('字段 "pager" 取值无效')
        size = min(size, self.options.max_page_size)
        rows, total = self.instances.page(number, size, delay=self.list_delay)
        return json_answer(
            {
                "instances": [instance.row(self.boot_time) for instance in rows],
                "pager": {"currentPage": number, "pageSize": size, "totalEntries": total},
            }
        )

    def _stop(self, body: Any) -> Answer:
        return self._end(body, "Stopped")

    def _terminate(self, body: Any) -> Answer:
        return self._end(body, "Released")

    def _end(self, body: Any, status: str) -> Answer:
        instance_id = _member(body, "instanceId")
        if not self.instances.end(instance_id, status):
            return self._error(answers.NO_SUCH_INSTANCE)
        return json_answer({"instanceId": instance_id})

    def _catalogue(self, _body: Any) -> Answer:
        return json_answer(catalogue(self.instances.free))

    def _balance(self, _body: Any) -> Answer:
        return json_answer(
            {
                "balance": self.balance,
                "availableBalance": max(0.0, self.balance),
                "availableVoucherAmount": 0,
                "availableCreditAmount": 0,
            }
        )

    def _script_options(self, texts: tuple[str, ...]) -> None:
        rates: dict[str, float] = {}
        for text in texts:
            fault, rate = parse_option(text)
            if rate is None:
                self.faults.script(fault)
            else:
                rates[text.rpartition("=")[0]] = rate
        self.faults.set_rates(rates)


_OUTCOME_OF_FAULT = {
    "429": "throttled",
    "429-date": "throttled",
    "expired": "unauthorized",
    "sold-out": "sold-out",
    "message": "rejected",
}


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _member(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, dict) else None
