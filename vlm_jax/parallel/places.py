"""Where every process stands, told through the coordinator's key-value store: for late barriers, and for dead peers.

Each process writes a beat and its place every few seconds from a thread of its own, so that one that computes or waits
is alive, and one that is killed, frozen or cut off is not.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

_PREFIX = "vlm_jax/places/"
_BEAT = 2.0  # seconds
_EXIT = 1


@dataclass(frozen=True)
class Place:
    """What one process last said, and how long ago this process heard it."""

    text: str
    age: float


class Places:
    """This process's place, and what is known of the others'.

    Args:
      client: the coordinator's key-value store (`key_value_set`, `key_value_dir_get`).
      rank, count: of this process.
      peer_timeout: seconds without a beat after which a peer counts as dead.
      heartbeat: seconds between process 0's lines; 0 = none.
      stop: what is called, with a line, when a peer is dead. By default it says the line and ends this process.
    """

    def __init__(
        self,
        client: Any,
        rank: int,
        count: int,
        *,
        peer_timeout: float,
        heartbeat: float,
        stop: Callable[[str], None] | None = None,
    ):
        self._client, self._rank, self._count = client, rank, count
        self._peer_timeout, self._heartbeat = peer_timeout, heartbeat
        self._stop = stop or end
        self._text = "starting"
        self._beats = 0
        self._done = threading.Event()
        self._heard: dict[int, tuple[int, float, str]] = {}  # rank -> its beat, when it was heard here, its place
        self._told = self._since = time.monotonic()

    def start(self) -> None:
        """Begins to beat."""
        threading.Thread(target=self._run, name="places", daemon=True).start()

    def close(self) -> None:
        """Ends the thread; says so to the others, which then expect no more beats."""
        self._done.set()
        self._write(final=True)

    def at(self, text: str) -> None:
        """Notes where this process is: `step 12`, `validation`; costs nothing."""
        self._text = text

    def now(self) -> dict[int, Place]:
        """{rank: what it last said}; reads the store."""
        self._write()
        self._read()
        now = time.monotonic()
        return {rank: Place(text, now - when) for rank, (_, when, text) in sorted(self._heard.items())}

    def describe(self, awaited: str = "") -> str:
        """One line: who is late for the place `awaited`, and where each stands."""
        known = self.now()
        late = [r for r in range(self._count) if awaited and (r not in known or known[r].text != awaited)]
        said = {r: f"{place.text} (heard {place.age:.0f} s ago)" for r, place in known.items()}
        stands = "; ".join(f"process {r}: {said.get(r, 'not heard')}" for r in range(self._count))
        head = f"late: process {', '.join(map(str, late))}; " if late else ""
        return head + stands

    # --- The thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._done.wait(_BEAT):
            self.beat()

    def beat(self) -> None:
        """One round: write, read, look for the dead, and, now and then, a line."""
        try:
            self._write()
            self._read()
        except Exception:  # the coordinator does not answer: JAX ends this process itself when that lasts
            return
        if dead := self._dead():
            place = self._heard.get(dead[0])
            where = f"last heard at {place[2]!r}" if place else "never heard"
            self._stop(
                f"process {', '.join(map(str, dead))} is dead or cut off ({where}, silent for more than "
                f"parallel.peer_timeout={self._peer_timeout:g} s): all stop. See its log, then start all again; the "
                "run goes on from its last checkpoint"
            )
        if self._rank == 0 and self._heartbeat and time.monotonic() - self._told >= self._heartbeat:
            self._told = time.monotonic()
            print(f"heartbeat: {self.describe()}", file=sys.stderr, flush=True)

    def _write(self, final: bool = False) -> None:
        self._beats += 1
        beat = {"beat": -1 if final else self._beats, "at": self._text}
        self._client.key_value_set(f"{_PREFIX}{self._rank}", json.dumps(beat), allow_overwrite=True)

    def _read(self) -> None:
        for key, value in self._client.key_value_dir_get(_PREFIX):
            rank, said = int(key.rsplit("/", 1)[1]), json.loads(value)
            before = self._heard.get(rank)
            if before is None or before[0] != said["beat"]:
                self._heard[rank] = (said["beat"], time.monotonic(), said["at"])

    def _dead(self) -> list[int]:
        now, dead = time.monotonic(), []
        for rank in range(self._count):
            beat, when, _ = self._heard.get(rank, (0, self._since, ""))
            if rank != self._rank and beat != -1 and now - when > self._peer_timeout:
                dead.append(rank)
        return dead


def end(line: str) -> None:
    """Says why, and ends the process: its main thread hangs in a collective that nobody will join."""
    print(f"vlm-jax: error: {line}", file=sys.stderr, flush=True)
    os._exit(_EXIT)


def client() -> Any:
    """The coordinator's key-value store; JAX has no public name for it."""
    from jax._src import distributed

    return distributed.global_state.client if jax.distributed.is_initialized() else None
