"""kubectl, with the kubeconfig of one cluster."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from devcluster.demo.failure import DemoFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """Runs kubectl; `kubeconfig` empty means the user's current context."""

    program: str
    kubeconfig: str

    def command(self, *arguments: str) -> list[str]:
        prefix = ["--kubeconfig", self.kubeconfig] if self.kubeconfig else []
        return [self.program, *prefix, *arguments]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """The command's standard output; raises DemoFailure with its standard error."""
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DemoFailure(f"`kubectl {' '.join(arguments)}` failed:\n{done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any] | None:
        """The object, or None where it does not exist."""
        out = self.run("get", *arguments, "--ignore-not-found", "-o", "json")
        return json.loads(out) if out.strip() else None

    def watch(self, *arguments: str) -> Iterator[dict[str, Any]]:
        """The object now and after each change, until the caller stops reading."""
        command = self.command("get", *arguments, "--watch", "-o", "json")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield from documents(iter(process.stdout.readline, "") if process.stdout else ())
            finally:
                process.terminate()

    def stream(self, *arguments: str) -> int:
        """Passes the command's output through; returns its exit status."""
        return subprocess.run(self.command(*arguments), check=False).returncode


def documents(lines: Iterator[str] | tuple[()]) -> Iterator[dict[str, Any]]:
    """kubectl prints watched objects one after another, each ending in a line `}`."""
    document: list[str] = []
    for line in lines:
        document.append(line)
        if line.rstrip() == "}":
            yield json.loads("".join(document))
            document.clear()
