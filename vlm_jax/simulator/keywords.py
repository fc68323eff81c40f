"""The closed list of step codes and how ten surgeons word each: a table, read by `language`.

A code never holds a finding, a side or a size. In wordings `{v}` is what only the image fills, `{side}` and `{other}`
are sides, `{tool}` is the instrument of a crossed code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


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
      needs: what of the plan must hold (`revision`, `septoplasty first`, `turbinoplasty`, `Draf I`, ...).
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


K = Keyword
ANY = (3, 4, 5, 6, 7, 8, 9, 10)
CORE: tuple[Keyword, ...] = (
    K("decongestion", (0,), ("decongestion with soaked cottonoids, good effect", "nose decongested on both sides with pledgets",
      "topical decongestion of the nasal mucosa completed"), lateral=False),
    K("nasal inspection", (0,), ("inspection of the cavity, {v} secretion seen", "endoscopy shows {v} secretion at the concha",
      "nasal cavity inspected, secretion {v}"),
      ("nasal cavity inspected, no secretion seen", "endoscopy without any secretion in the cavity"), finding="secretion"),
    K("septal deviation", (0,), ("septum deviated to the {v}", "deviation of the nasal septum to the {v}",
      "nasal septum bent towards the {v}"), ("septum straight and in the midline", "no relevant deviation of the nasal septum"),
      finding="septum", lateral=False),
    K("septal spur", (0,), ("bony spur of the septum low down", "septal spur seen above the floor"),
      ("septum smooth, no spur seen", "no spur along the septum"), finding="spur", share=0.5),
    K("polyp grade", (0,), ("polyps in the middle meatus, {v}", "polyposis of the meatus, {v}", "meatus holds polyps of {v}"),
      ("middle meatus free, no polyps seen", "no polyps in the middle meatus"), finding="polyps"),
    K("secretion", (0, 1), ("{v} secretion sucked off the concha", "secretion {v}, removed by suction"),
      ("no secretion on the inferior concha", "concha dry, no secretion"), finding="secretion", share=0.5),
    K("choana", (0,), ("choana reached and {v}", "choana {v} on passing the floor", "posterior nares seen, choana {v}"),
      finding="choana"),
    K("infiltration", (1,), ("infiltration of the lateral wall with adrenaline", "local anaesthetic with adrenaline injected",
      "infiltration at the axilla of the concha")),
    K("polypectomy", (1,), ("polyps {v} removed from the meatus{tool}", "polypectomy of the middle meatus, {v}{tool}"),
      ("no polyps, polypectomy not necessary", "polypectomy omitted, meatus without polyps"), finding="polyps", phase="before"),
    K("biopsy", (1,), ("biopsy taken from the meatus{tool}", "tissue sample sent for histology{tool}"), share=0.3),
    K("medialisation", (2,), ("middle concha gently moved towards the septum{tool}", "medialisation of the middle concha{tool}",
      "concha pushed medially, view into the meatus{tool}"), phase="after"),
    K("concha bullosa", (2,), ("middle concha is a concha bullosa", "concha bullosa found, meatus narrow"),
      ("middle concha slim, not pneumatised", "no concha bullosa present"), finding="concha bullosa", share=0.6),
    K("conchoplasty", (2,), ("lateral lamella of the concha trimmed{tool}", "conchoplasty of the middle concha done{tool}"), share=0.3),
    K("uncinate incision", (3,), ("uncinate process incised along its front edge{tool}", "incision of the uncinate process{tool}"),
      phase="before"),
    K("uncinectomy", (3,), ("uncinate process removed, opening {v}{tool}", "uncinectomy done, natural opening {v}{tool}",
      "uncinate taken down, maxillary opening {v} behind it{tool}"), finding="maxillary opening", phase="after"),
    K("maxillary opening", (4,), ("natural opening of the maxillary sinus {v}{tool}", "maxillary opening identified and {v}{tool}"),
      finding="maxillary opening", phase="before"),
    K("accessory opening", (0, 3, 4), ("accessory opening seen in the fontanelle", "fontanelle with an accessory opening"),
      ("no accessory opening in the fontanelle", "fontanelle closed, no accessory opening"), finding="accessory opening", share=0.5),
    K("antrostomy", (4,), ("middle antrostomy created, {v} access{tool}", "maxillary window opened, now {v}{tool}",
      "antrostomy at the natural opening, {v} result{tool}"), finding="antrostomy", phase="after"),
    K("maxillary content", (4,), ("maxillary sinus contains {v}{tool}", "{v} found within the maxillary sinus{tool}"),
      ("maxillary sinus empty, mucosa calm{tool}", "nothing retained in the maxillary sinus{tool}"), finding="maxillary content"),
    K("maxillary irrigation", (4,), ("maxillary sinus irrigated with saline until clear", "irrigation of the maxillary sinus"),
      phase="after", share=0.5),
    K("bulla opened", (5,), ("ethmoidal bulla opened, contains {v}{tool}", "bulla entered from below, {v} inside{tool}"),
      ("ethmoidal bulla opened and empty{tool}", "bulla entered from below, nothing inside{tool}"), finding="bulla content", phase="before"),
    K("anterior ethmoidectomy", (5,), ("anterior ethmoidal cells cleared, {v}{tool}", "anterior ethmoidectomy, cells with {v}{tool}",
      "cells before the lamella opened, {v}{tool}"), finding="anterior mucosa", phase="after"),
    K("orbital plate", (5, 7, 9), ("orbital plate exposed and {v}{tool}", "lamina papyracea seen, {v} throughout{tool}"),
      finding="orbital plate", phase="after", share=0.5),
    K("infraorbital cell", (5,), ("infraorbital cell opened along the orbit", "cell below the orbit found and opened"),
      ("no infraorbital cell on this side", "infraorbital cell not present"), finding="infraorbital cell", share=0.4),
    K("basal lamella", (6,), ("basal lamella perforated low and medially{tool}", "basal lamella of the concha opened{tool}",
      "passage through the basal lamella{tool}"), phase="after"),
    K("posterior ethmoidectomy", (7,), ("posterior ethmoidal cells cleared, {v}{tool}", "posterior ethmoidectomy, cells with {v}{tool}"),
      finding="posterior mucosa"),
    K("sphenoethmoidal cell", (7,), ("sphenoethmoidal cell above the sphenoid identified", "posterior cell reaches over the sphenoid"),
      ("no sphenoethmoidal cell found", "no cell above the sphenoid"), finding="sphenoethmoidal cell", share=0.5),
    K("superior concha", (8,), ("superior concha {v}{tool}", "superior nasal concha identified and {v}{tool}"),
      finding="superior concha", phase="after"),
    K("sphenoid opening", (8,), ("sphenoid opening found in the recess, {v}{tool}", "natural opening of the sphenoid {v}{tool}"),
      finding="sphenoid opening", phase="before"),
    K("sphenoidotomy", (8,), ("anterior wall of the sphenoid removed{tool}", "sphenoid opening widened downwards{tool}"), phase="after"),
    K("sphenoid content", (8,), ("sphenoid sinus contains {v}{tool}", "{v} found within the sphenoid sinus{tool}"),
      ("sphenoid sinus empty, mucosa calm{tool}", "nothing retained in the sphenoid sinus{tool}"), finding="sphenoid content", phase="after"),
    K("roof of ethmoid", (9,), ("roof of the ethmoid followed forwards, {v}{tool}", "skull base cleared, roof of type {v}{tool}"),
      finding="roof"),
    K("anterior ethmoidal artery", (9, 10), ("anterior ethmoidal artery seen {v}", "anterior artery identified, {v} at the roof"),
      finding="anterior artery"),
    K("posterior ethmoidal artery", (7, 9), ("posterior ethmoidal artery seen, {v}", "posterior artery at the roof, {v}"),
      finding="posterior artery"),
    K("agger nasi", (10,), ("{v} cell opened{tool}", "{v} removed from below{tool}"),
      ("no agger nasi cell present{tool}", "agger nasi not pneumatised{tool}"), finding="agger nasi", share=0.6),
    K("frontal recess", (10,), ("frontal recess explored, {v}{tool}", "frontal recess cleared, shows {v}{tool}"),
      finding="frontal mucosa", phase="before"),
    K("Draf I", (10,), ("drainage of the frontal recess as Draf I{tool}", "Draf I completed, infundibulum untouched{tool}"), phase="after", needs="Draf I"),
    K("Draf IIa", (10,), ("frontal sinus opened as Draf IIa{tool}", "Draf IIa from orbit to middle concha{tool}"), phase="after", needs="Draf IIa"),
    K("Draf IIb", (10,), ("frontal floor removed up to the septum, Draf IIb{tool}", "Draf IIb drainage completed{tool}"), phase="after", needs="Draf IIb"),
    K("Draf III", (10,), ("median drainage of both frontal sinuses, Draf III{tool}", "Draf III completed{tool}"), phase="after", needs="Draf III"),
    K("frontal opening", (10,), ("frontal opening now {v} and passable{tool}", "opening of the frontal sinus {v}{tool}"),
      finding="frontal opening", phase="after"),
    K("bleeding site", (11,), ("bleeding from the {v}{tool}", "oozing at the {v} seen{tool}"),
      ("middle concha dry, no bleeding site{tool}", "no bleeding from the middle concha{tool}"), finding="bleeding concha", phase="before"),
    K("turbinate bleeding", (11,), ("bleeding along the {v}{tool}", "{v} oozes slightly{tool}"),
      ("inferior concha dry, no bleeding{tool}", "no bleeding along the inferior concha{tool}"), finding="bleeding turbinate", phase="before", share=0.5),
    K("bipolar coagulation", (11,), ("bipolar coagulation until dry{tool}", "bleeding controlled with the bipolar{tool}"), share=0.5),
    K("final irrigation", (11,), ("final irrigation of the cavity with saline", "cavity rinsed with saline at the end"), share=0.6),
    K("spacer", (11,), ("silicone spacer placed into the meatus", "spacer between concha and lateral wall"), phase="after", share=0.4),
    K("packing", (11,), ("nasal packing with absorbable sponge", "absorbable packing inserted into the meatus"), phase="after", share=0.7),
    K("no complication", (11,), ("end of the operation without any complication", "no complication, patient to recovery in good state"),
      phase="after", lateral=False, share=0.9),
    K("other side", (1,), ("now the same procedure on the {side}", "change to the {side} side of the nose"), lateral=False, needs="second side"),
    K("angled endoscope", (3, 4, 10), ("change to the angled endoscope", "angled endoscope introduced for the view"), share=0.3, needs="angled"),
    K("shaver", (1, 5, 7), ("shaver used for the polypoid mucosa", "mucosa smoothed by the shaver"), share=0.25),
    K("navigation check", ANY, ("position checked with the navigation system", "navigation confirms the position"), share=0.12),
    K("orbital fat exposed", (5, 7, 9, 10, 11), ("orbital plate breached, {v} exposed", "{v} visible through the orbital plate"),
      finding="orbital fat", phase="after", share=1.0, needs="present"),
    K("cerebrospinal fluid leak", (9, 10, 11), ("{v} from the roof, leak suspected", "leak at the roof with {v}"),
      finding="leak", phase="after", share=1.0, needs="present"),
    K("previous operation", (0,), ("patient operated on before, sinuses known", "history of previous sinus surgery elsewhere"),
      lateral=False, status="history", needs="revision"),
    K("septoplasty", (0, 11), ("septoplasty with removal of the deviated cartilage{tool}", "septum straightened through a hemitransfixion incision{tool}"),
      lateral=False, needs="septoplasty"),
    K("turbinoplasty", (11,), ("inferior concha reduced by submucous turbinoplasty{tool}", "turbinoplasty of the inferior concha{tool}"),
      phase="after", needs="turbinoplasty"),
)

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
REVISED = ("uncinectomy", "antrostomy", "bulla opened", "anterior ethmoidectomy", "basal lamella",
           "posterior ethmoidectomy", "sphenoidotomy", "frontal recess")
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
