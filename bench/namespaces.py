"""Hosts on one machine: network namespaces with a network between them. Needs Linux, `ip`, and the right to use it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

NETWORK = "10.203.77"
"""A /24 of a private range, between our namespaces alone."""


_numbers = itertools.count()


class NotPermittedError(RuntimeError):
    """This machine, or this user, cannot make network namespaces."""


@dataclass(frozen=True)
class Host:
    """A namespace. `inside` begins a command that is to run in it."""

    name: str
    inside: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """Hosts, and the address at which they reach what runs outside of all of them."""

    hosts: tuple[Host, ...]
    address: str


@contextmanager
def network(count: int) -> Iterator[Network]:
    """So many hosts on one bridge, until the end of the block."""
    ip = shutil.which("ip")
    if ip is None:
        raise NotPermittedError("there is no `ip` command")

    def do(*words: str) -> None:
        done = subprocess.run([ip, *words], capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise NotPermittedError(f"`ip {words[0]} {words[1]}` says: {done.stderr.strip()}")

    # Never the same name twice: the kernel takes a namespace's devices away some time after the namespace itself.
    mark = f"lqb{os.getpid() % 10_000}{chr(97 + next(_numbers) % 26)}"
    with ExitStack() as stack:
        do("link", "add", mark, "type", "bridge")
        stack.callback(subprocess.run, [ip, "link", "del", mark], check=False)
        do("addr", "add", f"{NETWORK}.1/24", "dev", mark)
        do("link", "set", mark, "up")
        hosts = []
        for number in range(count):
            name, ours, theirs = f"{mark}-{number}", f"{mark}v{number}", f"{mark}p{number}"
            do("netns", "add", name)
            stack.callback(subprocess.run, [ip, "netns", "del", name], check=False)
            do("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
            stack.callback(subprocess.run, [ip, "link", "del", ours], check=False, capture_output=True)
            do("link", "set", ours, "master", mark, "up")
            inside = (ip, "netns", "exec", name)
            do("-n", name, "addr", "add", f"{NETWORK}.{number + 2}/24", "dev", theirs)
            do("-n", name, "link", "set", theirs, "up")
            do("-n", name, "link", "set", "lo", "up")
            hosts.append(Host(name, inside))
        yield Network(tuple(hosts), f"{NETWORK}.1")
