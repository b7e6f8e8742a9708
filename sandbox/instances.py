"""What the cloud owns: instances, and how many more each lane can take."""

import bisect
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

BAD_IMAGE_ID = "bad-image"
"""An image that cannot be pulled: its instances stay for ever in phase ``DownloadImage`` with reason ``BackOff``."""


class Lane(NamedTuple):
    """What competes for the same capacity."""

    region: str
    instance_type_id: str
    is_spot_instance: bool = False

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Lane":
        """The lane of a valid create body."""
        return cls(body["region"], body["instanceTypeId"], bool(body.get("isSpotInstance")))


@dataclass(slots=True)
class Instance:
    """One instance; ``created_at`` in seconds of the epoch, ``ended`` is "", "Stopped" or "Released"."""

    instance_id: str
    name: str
    body: Mapping[str, Any]
    created_at: float
    ended: str = ""

    def status(self, boot_time: float) -> str:
        """Its status by its age. The names are those of the API's documents."""
        if self.ended:
            return self.ended
        if self.body.get("imageId") == BAD_IMAGE_ID:
            return "PullingImage"
        age = time.time() - self.created_at
        if age >= boot_time:
            return "Running"
        return ("Initializing", "PullingImage", "Starting")[min(2, max(0, int(3 * age / boot_time)))]

    def row(self, boot_time: float) -> dict[str, Any]:
        """Its row in the answer of ``POST /instance/list``."""
        status = self.status(boot_time)
        stuck = status == "PullingImage" and self.body.get("imageId") == BAD_IMAGE_ID
        return {
            "instanceMetadata": {
                "instanceId": self.instance_id,
                "instanceName": self.name,
                "instanceUsername": "root",
            },
            "instanceSpecInfo": {
                "regionInfo": {"sshAddress": f"ssh.{self.body['region']}.sandbox.invalid"},
                "nodePorts": [
                    {"port": port, "nodePort": 30_000 + index}
                    for index, port in enumerate(self.body["nodePorts"])
                ],
            },
            "instanceRuntimeInfo": {
                "status": status,
                "phase": "DownloadImage" if status == "PullingImage" else status,
                "diagnosisReason": "BackOff" if stuck else "",
                "diagnosisMessage": "Back-off pulling image" if stuck else "",
            },
        }

    def as_json(self) -> dict[str, Any]:
        """The instance as the control API shows it."""
        return {
            "instanceId": self.instance_id,
            "name": self.name,
            "createdAt": self.created_at,
            "ended": self.ended,
            "body": self.body,
        }


class InstanceBook:
    """All instances in the order of their creation, and the free places of the lanes that have a limit."""

    def __init__(self) -> None:
        self.by_id: dict[str, Instance] = {}
        self.free: dict[Lane, int] = {}
        """Free places of a lane; a lane that is not here has no limit."""
        self._order: list[Instance] = []

    def __len__(self) -> int:
        return len(self._order)

    def names(self) -> Counter[str]:
        """How many instances each name has had."""
        return Counter(instance.name for instance in self._order)

    def all(self) -> list[Instance]:
        """All instances, oldest first."""
        return list(self._order)

    def set_capacity(self, lane: Lane, free: int | None) -> None:
        """Let ``lane`` take ``free`` more instances; None lifts the limit."""
        if free is None:
            self.free.pop(lane, None)
        else:
            self.free[lane] = free

    def create(self, body: Mapping[str, Any]) -> Instance | None:
        """A new instance for a valid body, or None when its lane is sold out."""
        lane = Lane.of(body)
        free = self.free.get(lane)
        if free is not None:
            if free <= 0:
                return None
            self.free[lane] = free - 1
        instance = Instance(f"notebook-{uuid.uuid4()}", body["name"], body, time.time())
        self.by_id[instance.instance_id] = instance
        self._order.append(instance)
        return instance

    def end(self, instance_id: object, status: str) -> bool:
        """Stop or release an instance; False where there is none. A released one gives its place back, once."""
        instance = self.by_id.get(instance_id) if isinstance(instance_id, str) else None
        if instance is None:
            return False
        if instance.ended != "Released":
            lane = Lane.of(instance.body)
            if status == "Released" and lane in self.free:
                self.free[lane] += 1
            instance.ended = status
        return True

    def page(self, number: int, size: int, *, delay: float) -> tuple[list[Instance], int]:
        """Page ``number`` (from 1), newest first, of the instances older than ``delay`` seconds, and their total."""
        total = len(self._order)
        if delay > 0:
            total = bisect.bisect_right(
                self._order, time.time() - delay, key=lambda instance: instance.created_at
            )
        last = total - (number - 1) * size
        if last <= 0:
            return [], total
        return self._order[max(0, last - size) : last][::-1], total
