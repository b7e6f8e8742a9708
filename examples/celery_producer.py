"""Enter one launch request from a program that only has Celery: launchq need not be installed there.

    python celery_producer.py body.json KEY

LAUNCHQ_BROKER_URL is the workers' broker; the queue has the name of their LAUNCHQ_PREFIX. The task's id is the job's
id: read the result as poll.sh does. A body that cannot be launched becomes a failed job with the category `invalid`.
A key that stands for a job already enters nothing: `GET {launchq}:key:KEY` then gives the id of that job.
"""

import json
import os
import sys
from pathlib import Path

from celery import Celery

app = Celery(broker=os.environ.get("LAUNCHQ_BROKER_URL", "redis://127.0.0.1:6379/0"))


def main(file: str, key: str) -> None:
    body = json.loads(Path(file).read_text(encoding="utf-8"))
    queue = os.environ.get("LAUNCHQ_PREFIX", "launchq")
    task = app.send_task("launchq.submit", [body], {"key": key, "maxAttempts": 5}, queue=queue)
    print(task.id)


if __name__ == "__main__":
    main(*sys.argv[1:])
