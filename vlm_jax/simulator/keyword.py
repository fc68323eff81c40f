"""What one step code is: the row type of the tables in `sentences_nasal` and `sentences_sinus`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keyword:
    """One step code.

    Attributes:
      steps: steps during which its event happens.
      wordings: of the event or of a finding that is there; `absent`, of a finding that is not.
      finding: the finding that fills `{v}` (None = procedural).
      phase: of the step: any, before or after its turn.
      share: of the occasions on which it is an event at all.
      lateral: the sentence says its side.
      status: done or history for procedural sentences; sentences with a finding are seen or absent.
      needs: what must hold: `revision`, `septoplasty`, `turbinoplasty`, `Draf I` (IIa, ...) of the plan; `present`, the
        finding is there; `first side`, `second side`; `angled`, a scope that is not straight; empty = nothing.
    """

    code: str
    steps: tuple[int, ...]
    wordings: tuple[str, ...]
    absent: tuple[str, ...] = ()
    finding: str | None = None
    phase: str = "any"
    share: float = 0.8
    lateral: bool = True
    status: str = "done"
    needs: str = ""
