"""Asks the served model a question with plain curl."""

import json
import shlex
import subprocess
from typing import Any

from rich.console import Console

from devcluster.demo.failure import DemoFailure

QUESTION = "What is ModelServer?"


def ask(console: Console, *, url: str, model: str) -> str:
    """Prints the curl command and the answer; returns the answer's text."""
    command = curl(url, model)
    console.print(f"\n  [bold]$[/] {shlex.join(command)}", highlight=False, soft_wrap=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoFailure(f"curl ended with {done.returncode}: {done.stderr.strip()}")
    return answer_of(done.stdout)


def curl(url: str, model: str) -> list[str]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 64,
        "temperature": 0,
    }
    return [
        "curl", "-sS", "--fail-with-body", "--max-time", "60", f"{url}/v1/chat/completions",
        "-H", "Content-Type: application/json", "-d", json.dumps(body),
    ]  # fmt: skip


def answer_of(body: str) -> str:
    document: dict[str, Any] = json.loads(body)
    text = str(document["choices"][0]["message"]["content"]).strip()
    if not text:
        raise DemoFailure(f"the model answered with no text: {body}")
    return text
