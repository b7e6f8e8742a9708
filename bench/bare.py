"""The base line: the same calls by a plain asyncio script on aiohttp. No queue, no record, nothing that survives it."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp


async def launch(url: str, bodies: Iterator[dict[str, Any]], in_flight: int) -> None:
    """Make all calls, so many at once."""
    headers = {"Cookie": "AccessToken=bench"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def caller() -> None:
            for body in bodies:
                async with session.post(f"{url}/instance/create", json=body) as response:
                    answer = await response.json()
                    assert answer["instanceId"]

        await asyncio.gather(*(caller() for _ in range(in_flight)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("template")
    parser.add_argument("jobs", type=int)
    parser.add_argument("in_flight", type=int)
    options = parser.parse_args()
    template = json.loads(Path(options.template).read_text(encoding="utf-8"))
    bodies = ({**template, "name": f"job-{number:07d}"} for number in range(options.jobs))
    asyncio.run(launch(options.url, bodies, options.in_flight))


if __name__ == "__main__":
    main()
