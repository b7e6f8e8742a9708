"""What the figures were measured on, without anything that names the machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench.processes import ROOT
from sandbox.redis_server import find_redis_binary


def describe(*, redis_binary: str | None, fsync: str) -> dict[str, Any]:
    """Cores, memory, versions, and the commit that was measured."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memoryGb": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
        "redis": _said([redis_binary or find_redis_binary(), "--version"], r"(\w+) server v=([\d.]+)"),
        "appendfsync": fsync,
        "commit": _said(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], r"()(.+)"),
    }


def _said(command: list[str], pattern: str) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError:
        return "unknown"
    match = re.search(pattern, said)
    return f"{match[1]} {match[2]}".strip() if match else "unknown"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        match = re.search(r"^model name\s*: (.*)$", information.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match[1]
    return platform.machine()
