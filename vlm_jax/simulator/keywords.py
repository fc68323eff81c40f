"""The closed list of step codes and how ten surgeons word each: a table, read by `language`.

A code never holds a finding, a side or a size. In wordings `{v}` is what only the image fills, `{side}` and `{other}`
are sides, `{tool}` is the instrument of a crossed code.
"""

from __future__ import annotations

from dataclasses import replace

from vlm_jax.simulator.keyword import Keyword
from vlm_jax.simulator.sentences_nasal import NASAL
from vlm_jax.simulator.sentences_sinus import SINUS

CORE: tuple[Keyword, ...] = (*NASAL, *SINUS)
"""The codes without an instrument, in the order in which their events are drawn."""

TOOLS: dict[str, str] = {
    "sickle knife": "sickle knife",
    "backbiter": "backbiter",
    "Blakesley": "Blakesley forceps",
    "through-cutting": "through-cutting forceps",
    "curette": "curette",
    "circular punch": "circular punch",
    "suction": "suction",
    "microdebrider": "microdebrider",
    "elevator": "elevator",
}
"""Instrument as a code names it -> as a sentence does."""

CROSSED: dict[str, tuple[str, ...]] = {
    "polypectomy": ("microdebrider", "Blakesley", "through-cutting", "suction"),
    "biopsy": ("Blakesley", "through-cutting", "curette"),
    "medialisation": ("elevator", "suction"),
    "conchoplasty": ("through-cutting", "microdebrider", "sickle knife"),
    "uncinate incision": ("sickle knife", "backbiter", "elevator"),
    "uncinectomy": ("backbiter", "Blakesley", "through-cutting", "microdebrider", "sickle knife"),
    "maxillary opening": ("suction", "curette"),
    "antrostomy": ("backbiter", "through-cutting", "circular punch", "microdebrider", "Blakesley"),
    "maxillary content": ("suction", "Blakesley", "curette"),
    "bulla opened": ("curette", "Blakesley", "microdebrider", "suction"),
    "anterior ethmoidectomy": ("Blakesley", "through-cutting", "microdebrider", "curette", "circular punch"),
    "orbital plate": ("curette", "suction"),
    "basal lamella": ("curette", "Blakesley", "suction", "microdebrider", "through-cutting"),
    "posterior ethmoidectomy": ("Blakesley", "through-cutting", "microdebrider", "curette", "circular punch"),
    "superior concha": ("through-cutting", "circular punch"),
    "sphenoid opening": ("suction", "curette"),
    "sphenoidotomy": ("circular punch", "curette", "through-cutting"),
    "sphenoid content": ("suction", "Blakesley", "curette"),
    "roof of ethmoid": ("curette", "through-cutting"),
    "agger nasi": ("curette", "Blakesley"),
    "frontal recess": ("curette", "Blakesley", "through-cutting", "microdebrider"),
    "Draf I": ("curette", "Blakesley"),
    "Draf IIa": ("curette", "through-cutting", "circular punch"),
    "Draf IIb": ("through-cutting", "circular punch"),
    "Draf III": ("through-cutting", "circular punch"),
    "frontal opening": ("suction", "curette", "circular punch"),
    "bleeding site": ("suction",),
    "turbinate bleeding": ("suction",),
    "bipolar coagulation": ("suction",),
    "septoplasty": ("elevator", "sickle knife", "through-cutting"),
    "turbinoplasty": ("elevator", "microdebrider"),
}
REVISED = (
    "uncinectomy",
    "antrostomy",
    "bulla opened",
    "anterior ethmoidectomy",
    "basal lamella",
    "posterior ethmoidectomy",
    "sphenoidotomy",
    "frontal recess",
)
"""Steps that have a code of their own when the side was operated on before."""


def _closed_list() -> dict[str, tuple[Keyword, str]]:
    table: dict[str, tuple[Keyword, str]] = {}
    for keyword in CORE:
        table[keyword.code] = (keyword, "")
        for tool in CROSSED.get(keyword.code, ()):
            table[f"{keyword.code}, {tool}"] = (replace(keyword, code=f"{keyword.code}, {tool}"), TOOLS[tool])
        if keyword.code in REVISED:
            code = f"revision of {keyword.code}"
            wordings = tuple(f"revision: {w}" for w in keyword.wordings)
            absent = tuple(f"revision: {w}" for w in keyword.absent)
            table[code] = (replace(keyword, code=code, wordings=wordings, absent=absent), "")
    return table


KEYWORDS: dict[str, tuple[Keyword, str]] = _closed_list()
"""Every step code -> (its row, the instrument that its sentences name, empty for none)."""
