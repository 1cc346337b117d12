"""A process of its own for a family of contestants: ``python -m fastoptim.bench.family torch``.

torch, JAX and NumPy's OpenBLAS each start threads that would be in the others' way. A family waits
for a line, does what it says, and answers with a line; between its turns it sleeps. Lines are JSON:

    {"network": name, "fixed": bool}            → {"names": [contestants]}
    {"turn": contestant, "seconds": s}          → {"steps": [s, …], "updates": [s, …], "loss": x}

An answer may be {"different": text}, bits that are not the listing's, or {"failed": text}.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

PAUSE = 0.06  # seconds before a turn: OpenBLAS's threads spin for 25 ms


class Family:
    """The other end: starts the process and talks to it."""

    def __init__(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastoptim.bench.family", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, encoding="utf-8", env=os.environ | dict(environment or {}),
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *problem: object) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # it ended by itself, with a line unread
                    stream.close()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send a line and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(question), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"failed": f"its process ended with status {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer


def answer(question: dict[str, Any], family: str, trained: dict[str, Any]) -> dict[str, Any]:
    """Do what a line says."""
    from fastoptim.bench.contestants.networks import FAMILIES
    from fastoptim.bench.networks import turn

    if "network" in question:
        trained.clear()
        trained.update(FAMILIES[family](question["network"], question["fixed"]))
        trained["first"] = set(trained)
        return {"names": [name for name in trained if name != "first"]}
    name = question["turn"]
    time.sleep(PAUSE)
    steps, updates = turn(trained[name], question["seconds"], name in trained["first"])
    trained["first"].discard(name)
    return {"steps": steps, "updates": updates, "loss": trained[name].loss()}


def main(family: str) -> None:
    """Answer line after line."""
    from fastoptim.bench.bits import DifferentBits

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    trained: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            result = answer(json.loads(line), family, trained)
        except DifferentBits as problem:
            result = {"different": str(problem)}
        except Exception as problem:
            result = {"failed": f"{type(problem).__name__}: {problem}".split("\n")[0]}
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
