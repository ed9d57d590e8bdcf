"""The process's log: lines for people or JSON, with the request they belong to, without secrets."""

import logging
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import orjson

from modelserver_runtime.settings import Settings
from modelserver_runtime.timing import current_request

# Keys of servers like this one, tokens of the hub, and whatever stands behind "Bearer".
_SECRETS = re.compile(r"\b(hf_(?!server_)|sk-)[A-Za-z0-9_-]{8,}|(?i:\b(bearer\s+))[^\s\"',}]{8,}")
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
# Their progress bars and advice are for notebooks.
_LOUD_LIBRARIES = ("httpx", "httpx2", "httpcore", "uvicorn", "asyncio", "urllib3", "opentelemetry")


def install_logging(settings: Settings, stream: TextIO = sys.stderr) -> None:
    handler = logging.StreamHandler(stream)
    is_json = settings.log_format == "Json" or (settings.log_format == "Auto" and in_container())
    handler.setFormatter(JsonLines() if is_json else TextLines())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    for name in _LOUD_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


def in_container() -> bool:
    """In a pod, or in a container of Docker or Podman."""
    is_pod = "KUBERNETES_SERVICE_HOST" in os.environ  # noqa: TID251  says where, not how
    return is_pod or any(mark.exists() for mark in _CONTAINER_MARKS)


def without_secrets(text: str) -> str:
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] or ''}***", text)


class TextLines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        first, newline, rest = line.partition("\n")
        return without_secrets(f"{first} {fields}{newline}{rest}" if fields else line)


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message, the record's own fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return without_secrets(orjson.dumps(content, default=str).decode())


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What `extra={"fields": ...}` gave, and the id of the request that is being answered."""
    fields: dict[str, object] = dict(getattr(record, "fields", {}))
    request = current_request.get()
    if request is not None:
        fields.setdefault("request_id", request.request_id)
    return fields
