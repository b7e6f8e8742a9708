"""What the tests of the sandbox share: the create bodies of the API's page, a client, and raw sockets."""

import asyncio
import copy
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import psutil

from sandbox import CloudServer

# The example of the request body, as the API's page of the create call gives it.
BODY_EXAMPLE: dict[str, Any] = {
    "name": "example-instance",
    "imageId": "7a81788c-xxxx-xxxx-xxxx-2409e3c8150c",
    "instanceTypeId": "dc25f5be-xxxx-xxxx-xxxx-5030e3358c41",
    "region": "fce31a0c-xxxx-xxxx-xxxx-41caa1bdd251",
    "billing": {"chargeMode": "perHour", "duration": 1},
    "remoteStorages": [
        {
            "mountPath": "/root/highspeedstorage/example-volume",
            "remoteStorageName": "example-volume",
            "remoteStorageId": "f6a6345e-xxxx-xxxx-xxxx-e52e330cfaec",
            "type": "highspeedstorage",
        }
    ],
    "instanceConfiguration": {
        "extraDataDiskSizeDB": 0,
        "enableCommonData": False,
        "enableDocker": True,
        "dockerStorageSize": 50,
        "initScript": "",
    },
    "isSpotInstance": False,
    "nodePorts": [7891, 7892],
}

# The body of the curl example on the same page, byte for byte.
CURL_EXAMPLE = (
    '{"name":"example-instance","imageId":"7a81788c-xxxx-xxxx-xxxx-2409e3c8150c",'
    '"instanceTypeId":"c531be90-xxxx-xxxx-xxxx-59d3d911e29e","region":"fce31a0c-xxxx-xxxx-xxxx-41caa1bdd251",'
    '"billing":{"chargeMode":"perHour","duration":1},"remoteStorages":[],'
    '"instanceConfiguration":{"enableCommonData":false,"enableDocker":false, "initScript": ""},"nodePorts":[]}'
)


def body(**changes: Any) -> dict[str, Any]:
    """The example with other values at the top level."""
    return copy.deepcopy(BODY_EXAMPLE) | changes


async def wait_until(condition: Callable[[], bool], *, description: str, within: float = 5.0) -> None:
    """Poll until ``condition`` holds, for at most ``within`` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"waited {within} s in vain: {description}"
        await asyncio.sleep(0.005)


def wait_until_blocking(condition: Callable[[], bool], *, description: str, within: float = 5.0) -> None:
    """`wait_until` for tests without an event loop."""
    asyncio.run(wait_until(condition, description=description, within=within))


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and was not yet reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Client:
    """Calls the cloud with a good token, over real sockets."""

    def __init__(self, server: CloudServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session
        self.headers = {"Cookie": f"theme=dark; AccessToken={server.cloud.tokens.mint().access_token}"}

    async def post(self, path: str, value: Any, **headers: str) -> tuple[int, Any]:
        """HTTP status and parsed answer."""
        data = value if isinstance(value, str | bytes) else json.dumps(value)
        async with self.session.post(
            self.server.api_url + path, data=data, headers=headers or self.headers
        ) as response:
            return response.status, await response.json()

    async def get(self, path: str) -> tuple[int, Any]:
        """HTTP status and parsed answer."""
        async with self.session.get(self.server.api_url + path, headers=self.headers) as response:
            return response.status, await response.json()

    async def create(self, **changes: Any) -> Any:
        """The answer to a create call of the example with changes."""
        return (await self.post("/instance/create", body(**changes)))[1]

    async def list(self, page: int = 1, size: int = 10) -> Any:
        """The answer to a list call."""
        return (await self.post("/instance/list", {"pager": {"currentPage": page, "pageSize": size}}))[1]

    def raw_create(self, **changes: Any) -> bytes:
        """A create call as bytes on the wire."""
        payload = json.dumps(body(**changes)).encode()
        head = (
            "POST /api/instance/create HTTP/1.1\r\nHost: localhost\r\n"
            f"Cookie: {self.headers['Cookie']}\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        return head.encode() + payload

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare TCP connection to the cloud."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.listener.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError):  # that is how some faults end
                await writer.wait_closed()

    async def exchange(self, **changes: Any) -> bytes:
        """Everything the cloud writes until it closes, after one create call on a bare connection."""
        async with self.connection() as (reader, writer):
            writer.write(self.raw_create(**changes))
            async with asyncio.timeout(5):
                return await reader.read()
