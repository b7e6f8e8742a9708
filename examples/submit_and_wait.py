"""Submit one launch request, wait for its end, and tell the ends apart.

    python submit_and_wait.py body.json KEY

Settings come from LAUNCHQ_* or .env, as for the workers. KEY is your own name for this launch, an order number for
example: run this again with the same key, and it finds the job instead of buying a second instance.
"""

import json
import sys
from pathlib import Path

from launchq import Launcher, State


def main(file: str, key: str) -> int:
    body = json.loads(Path(file).read_text(encoding="utf-8"))
    with Launcher() as launcher:
        job = launcher.submit(body, key=key)
        print(f"job {job.id} is {job.state}")
        [job] = launcher.wait([job.id], timeout=120)
    if job.state is State.SUCCEEDED:
        print(job.instance_id)
        return 0
    if job.state is State.UNCERTAIN:
        print(f"{job.name} may exist: look in the console. Nothing sends it again.", file=sys.stderr)
        return 5
    if not job.ended:
        print(f"still {job.state}; run this again to go on waiting", file=sys.stderr)
        return 4
    print(job.error.message if job.error else job.state, file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
