"""What people are told: the documents of the ledger's outbox (ledger/lua/outbox.lua), read and put into words.

English and Chinese. What the API said is passed on as it came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from tasks.jobs import instant, rfc3339

Language = Literal["en", "zh"]

BATCH_DONE, JOB_FAILED, NEEDS_PERSON, CAPACITY_ARRIVED = KINDS = (
    "batchDone",
    "jobFailed",
    "needsPerson",
    "capacityArrived",
)
TEST = "test"


@dataclass(frozen=True)
class Notice:
    """One thing that people are told, gathered over a while. `count` is how often it happened; times are aware, in UTC.

    `facts` is what belongs to the kind, as in the document: `batchId`, `jobs`, `reasons` and so on.
    """

    kind: str
    count: int
    first_at: datetime
    last_at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Notice:
        """From a document of the outbox."""
        own = {"kind", "count", "firstAt", "lastAt", "notBefore"}
        return cls(
            document["kind"],
            int(document["count"]),
            instant(document["firstAt"]),
            instant(document["lastAt"]),
            {name: value for name, value in document.items() if name not in own},
        )

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why, and for how many jobs; the most frequent first."""
        found: Mapping[str, int] = self.facts.get("reasons") or {}
        return sorted(found.items(), key=lambda pair: -pair[1])

    def document(self) -> dict[str, Any]:
        """For programs: names and times as everywhere else on our wires."""
        facts = {**self.facts}
        if "reasons" in facts:
            facts["reasons"] = [{"message": text, "jobs": int(jobs)} for text, jobs in self.reasons]
        for name in ("begunAt", "since"):
            if name in facts:
                facts[name] = rfc3339(instant(facts[name]))
        return {
            "kind": self.kind,
            "count": self.count,
            "firstAt": rfc3339(self.first_at),
            "lastAt": rfc3339(self.last_at),
            "text": words(self, "en"),
            **facts,
        }


def read_notices(documents: str) -> list[Notice]:
    """The notices in a message of the ledger: a JSON list of documents."""
    return [Notice.of(document) for document in json.loads(documents)]


def trial(now: datetime) -> Notice:
    """What `launchq notify test` sends."""
    return Notice(TEST, 1, now, now)


def words(notice: Notice, language: Language) -> str:
    """The notice in a sentence."""
    tell = {
        BATCH_DONE: _batch_done,
        JOB_FAILED: _jobs,
        NEEDS_PERSON: {"blocked": _blocked, "held": _held}.get(notice.facts.get("what", ""), _jobs),
        CAPACITY_ARRIVED: _capacity_arrived,
        TEST: _test,
    }.get(notice.kind, _further)
    return (_further if notice.facts.get("further") else tell)(notice, language)


def text_of(notices: Sequence[Notice], language: Language, *, prefix: str, limit: int) -> str:
    """A message for people, of at most so many bytes. It begins with `launchq`, so that a robot can ask for that word."""
    head = "launchq" if prefix == "launchq" else f"launchq ({prefix})"
    lines = [words(notice, language) for notice in notices]
    if len(lines) == 1:
        return cut(f"{head}: {lines[0]}", limit)
    share = (limit - len(head.encode()) - 2) // len(lines) - 3
    return "\n".join((f"{head}:", *(f"- {cut(line, share)}" for line in lines)))


def cut(text: str, limit: int) -> str:
    """Text of at most so many bytes, never cut inside a character."""
    data = text.encode()
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "..."


_STATES: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "succeeded": "succeeded",
        "failed": "failed",
        "cancelled": "were cancelled",
        "uncertain": "uncertain",
    },
    "zh": {"succeeded": "成功", "failed": "失败", "cancelled": "已取消", "uncertain": "结果不明"},
}


def _batch_done(notice: Notice, language: Language) -> str:
    facts = notice.facts
    counts = [
        f"{int(facts['counts'][state])} {name}"
        for state, name in _STATES[language].items()
        if facts["counts"].get(state)
    ]
    took = length((notice.last_at - instant(facts["begunAt"])).total_seconds(), language)
    if language == "zh":
        return (
            f"批次 {facts['batchId']} 已结束:{'、'.join(counts)},共 {int(facts['total'])} 个任务,用时 {took}"
        )
    total = _many(int(facts["total"]), "job")
    return f"batch {facts['batchId']} has ended after {took}: {', '.join(counts)}, of {total}"


def _jobs(notice: Notice, language: Language) -> str:
    facts, batch = notice.facts, notice.facts.get("batchId")
    uncertain = facts.get("what") == "uncertain"
    reasons = notice.reasons
    others = len(reasons) - 1
    more = "+" if facts.get("otherReasons") else ""
    [first, *_] = facts["jobs"]
    one = notice.count == 1
    if language == "zh":
        whose = f"批次 {batch} 中 " if batch else ""
        who = f"{whose}任务 {first['name']}({first['id']})" if one else f"{whose}{notice.count} 个任务"
        what = "结果不明,需要人工确认(launchq resolve)" if uncertain else "失败"
        rest = f"(另有 {others}{more} 种原因)" if others > 0 or more else ""
        return f"{who}{what}:{reasons[0][0]}{rest}"
    whose = f" of batch {batch}" if batch else ""
    who = f"job {first['name']} ({first['id']}){whose}" if one else f"{notice.count} jobs{whose}"
    what = (
        f"{'is' if one else 'are'} uncertain, a person must decide (launchq resolve)"
        if uncertain
        else "failed"
    )
    other = "reason" if others == 1 and not more else "reasons"
    rest = f" (and {others}{more} other {other})" if others > 0 or more else ""
    return f"{who} {what}: {reasons[0][0]}{rest}"


_BLOCKED: Final[Mapping[str, tuple[str, str]]] = {
    "balance": ("the balance does not suffice; top it up", "余额不足,请充值"),
    "credentials": (
        "there is no token that works; put the credentials right, or use launchq auth set-token",
        "没有可用的令牌,请更正账号密码,或执行 launchq auth set-token",
    ),
    "evicting": (
        "Redis may throw jobs away; set maxmemory-policy noeviction",
        "Redis 可能丢弃任务,请设置 maxmemory-policy noeviction",
    ),
}


def _blocked(notice: Notice, language: Language) -> str:
    reason, message = notice.facts.get("reason", ""), notice.facts.get("message", "")
    english, chinese = _BLOCKED.get(reason, (reason, reason))
    said = f": {message}" if message else ""
    if language == "zh":
        return f"账号已停用,不再发起任何创建:{chinese}" + (f":{message}" if message else "")
    return f"the account is blocked, nothing is launched: {english}{said}"


def _held(notice: Notice, language: Language) -> str:
    batch, failed = notice.facts["batchId"], int(notice.facts["failed"])
    if language == "zh":
        return f"批次 {batch} 已有 {failed} 个任务失败,其余任务已暂停;确认后执行 launchq resume {batch}"
    return f"batch {batch} is held after {_many(failed, 'failure')}: look why, then launchq resume {batch}"


def _capacity_arrived(notice: Notice, language: Language) -> str:
    facts = notice.facts
    waited = length((notice.last_at - instant(facts["since"])).total_seconds(), language)
    waiting = int(facts.get("waiting", 0))
    if language == "zh":
        return f"{facts['lane']} 又有资源了(此前售罄 {waited}),还有 {waiting} 个任务在等待"
    return f"there is capacity again on {facts['lane']}, after {waited}; {_many(waiting, 'more job')} {'waits' if waiting == 1 else 'wait'}"


def _further(notice: Notice, language: Language) -> str:
    if language == "zh":
        return f"另有 {notice.count} 条 {notice.kind} 通知,因积压过多未逐条列出,见 launchq list"
    return f"{notice.count} more of {notice.kind}, too many to be told one by one: see launchq list"


def _test(_: Notice, language: Language) -> str:
    return "这是一条测试消息" if language == "zh" else "this is a test"


def length(seconds: float, language: Language) -> str:
    """A length of time for people: its two largest units."""
    left = max(0, round(seconds))
    names = ("天", "小时", "分", "秒") if language == "zh" else ("d", "h", "min", "s")
    parts: list[str] = []
    for size, name in zip((86400, 3600, 60, 1), names, strict=True):
        if left >= size or (size == 1 and not parts):
            parts.append(f"{left // size} {name}")
            left %= size
    return " ".join(parts[:2])


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
