"""What happens: the Celery app and its tasks, the shift, the pulse, the cloud's HTTP client, and token keeping.

`celery -A worker worker` finds the app here.
"""

from worker.app import app

__all__ = ["app"]
