"""launchq launches cloud instances: many, later, or as soon as there is capacity. Nothing lost, nothing bought twice.

    from launchq import Launcher

    launcher = Launcher()
    job = launcher.submit(body)
    [job] = launcher.wait([job.id], timeout=60)
    print(job.state, job.instance_id, job.error)

Importing this loads no HTTP client, and Celery only when something is enqueued.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config import Settings, SettingsError
    from launchq.launcher import Launcher
    from tasks.errors import InputError, LaunchqError, LedgerError, NotFoundError, Problem, RefusedError
    from tasks.jobs import Batch, Job, JobError, Receipt
    from tasks.request import Billing, InstanceConfiguration, LaunchRequest, RemoteStorage
    from tasks.states import State

__all__ = [
    "Batch",
    "Billing",
    "InputError",
    "InstanceConfiguration",
    "Job",
    "JobError",
    "LaunchRequest",
    "Launcher",
    "LaunchqError",
    "LedgerError",
    "NotFoundError",
    "Problem",
    "Receipt",
    "RefusedError",
    "RemoteStorage",
    "Settings",
    "SettingsError",
    "State",
]

_HOMES = {
    "launchq.launcher": ("Launcher",),
    "config": ("Settings", "SettingsError"),
    "tasks.errors": ("InputError", "LaunchqError", "LedgerError", "NotFoundError", "Problem", "RefusedError"),
    "tasks.jobs": ("Batch", "Job", "JobError", "Receipt"),
    "tasks.request": ("Billing", "InstanceConfiguration", "LaunchRequest", "RemoteStorage"),
    "tasks.states": ("State",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'launchq' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
