"""How logs look, and how much other libraries may say in them."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """Each line one JSON document: time (RFC 3339, UTC), level, logger, process, message and, with an error, its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        document = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["error"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


def begin(log_format: str, level: int = logging.WARNING) -> None:
    """Log to stderr like that, from this level on; for processes whose logs nobody else sets up."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def write_json(logger: logging.Logger) -> None:
    """Have a logger that others have set up write JSON."""
    for handler in logger.handlers:
        handler.setFormatter(JsonFormatter())


def quiet_libraries() -> None:
    """A line for every HTTP call would bury what matters: httpx speaks up only when something is wrong.

    At level debug Celery's pool logs every message with all that is in it, which may be secret: it never does here.
    """
    for name in ("httpx", "httpcore", "asyncio", "celery.pool"):
        logging.getLogger(name).setLevel(logging.WARNING)
