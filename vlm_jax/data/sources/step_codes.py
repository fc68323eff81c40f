"""Step codes for the sentences of operative notes: a closed list, assigned by rule from the action that is told.

A code names the step and nothing that the sentence tells of it: no finding, no side, no size, no structure. Rules are
regular expressions on the action. The first action of the main clause decides; opening clauses (`After adequate
anesthesia was obtained, ...`) count only where the main clause names no action.
"""

from __future__ import annotations

import re

OTHER = "other step"

RULES: tuple[tuple[str, str], ...] = (
    # Before the first cut
    ("consent", r"consent(?:ed)?\b|risks? and benefits|risks,? benefits"),
    ("time-out", r"time[- ]?out\b|surgical pause|identified (?:him|her)self|correctly identified"),
    (
        "transfer",
        r"(?:taken|brought|transported|transferred|moved|returned|wheeled|sent) (?:\w+ ){0,3}?(?:to|into|in) "
        r"(?:the |her |his )?(?:\w+ ){0,4}?(?:room|suite|or|theater|recovery|pacu|icu|unit|lab|area|floor)\b",
    ),
    (
        "positioning",
        r"(?:supine|prone|lithotomy|decubitus|trendelenburg|sitting|beach[- ]chair) position|positioned\b"
        r"|(?:bed|table) was turned|placed (?:\w+ )?(?:supine|prone)|shoulder roll|turned \d+ degrees",
    ),
    ("anaesthesia", r"an(?:a)?esthe(?:sia|tics?|tized)\b|sedat(?:ion|ed)|laryngeal mask|\blma\b|\bmask(?:ed)?\b"),
    ("intubation", r"(?<!ex)intubat(?:ed|ion)\b|endotracheal tube|nasotracheal"),
    ("preparation", r"prepped|draped|prep(?:ping)? and drap|sterile(?:ly)? (?:prep|drap)|\bprep\b|\bshaved\b|betadine"),
    ("local injection", r"inject(?:ed|ion|ing)|infiltrat(?:ed|ion|ing)|lidocaine|xylocaine|marcaine|bupivacaine"),
    ("decongestion", r"decongest|afrin|oxymetazoline|neo-?synephrine|pledgets?|cottonoid|cocaine|topical"),
    ("marking", r"\bmark(?:ed|ing)\b|outlined\b|\bdrawn\b|measured\b"),
    (
        "medication",
        r"antibiotics?\b(?! (?:solution|irrigat))|decadron|dexamethasone|steroids?|\bancef\b|heparin"
        r"|(?:was|were) given\b|administered|premedicat",
    ),
    ("tourniquet", r"tourniquet"),
    ("catheter", r"catheter(?:ized|ization)?\b|\bfoley\b"),
    # Getting there
    ("incision", r"incis(?:ion|ions|ed|ing)\b|skin was (?:cut|opened)|stab wound|myringotomy"),
    ("port placement", r"trocars?\b|\bports?\b|veress|cannulas?\b"),
    ("insufflation", r"insufflat|pneumoperitoneum|desufflat"),
    (
        "endoscope passed",
        r"(?:camera|\w*scope) (?:was |were )?(?:then )?(?:again )?(?:gently |carefully )?"
        r"(?:passed|advanced|inserted|introduced|placed|brought|re-?inserted)"
        r"|(?:passed|inserted|introduced|advanced) (?:the |a |an )?(?:\w+ ){0,4}\w*scope",
    ),
    (
        "endoscope withdrawn",
        r"(?:camera|\w*scope) (?:was |were )?(?:then )?(?:slowly )?(?:withdrawn|removed|pulled)|withdrawn\b|withdrew",
    ),
    ("retraction", r"retract(?:ed|or|ors|ion)|speculum|mouth gag|\bgag\b|suspended|tenaculum"),
    (
        "exposure",
        r"expos(?:ed|ure|ing)|visualiz(?:ed|ation|ing) (?:was|were)? ?(?:obtained|achieved)|entered\b|\bentry\b"
        r"|access(?:ed)?\b|opened\b|opening",
    ),
    (
        "dissection",
        r"dissect(?:ed|ion|ing)?\b|carried down|freed\b|mobiliz(?:ed|ation)|lys(?:is|ed)\b|undermin"
        r"|develop(?:ed|ing)\b|separated|skeletoniz",
    ),
    ("flap elevation", r"\bflaps?\b|elevat(?:ed|ion|ing)\b"),
    ("identification", r"identif(?:ied|ication|y)\b|isolated\b"),
    (
        "inspection",
        r"inspect(?:ed|ion)?\b|examin(?:ed|ation)\b|explor(?:ed|ation)\b|survey|(?:laryngo|broncho|arthro|cysto)scopy"
        r"|endoscopy|attention was|evaluat(?:ed|ion)|visualiz|\bviewed\b",
    ),
    ("imaging", r"fluoroscop|x-?rays?\b|radiograph|ultrasound|cholangiogram|navigation|image[- ]guid|\bct\b"),
    ("photographs", r"photograph|pictures?\b|photos?\b|photodocument"),
    # Doing it
    ("biopsy", r"biops(?:y|ies|ied)|washings?\b|brushings?\b|cultur"),
    ("resection", r"resect(?:ed|ion|ing)|excis(?:ed|ion|ing)|amputat|ablat|\w+ectomy\b|enucleat|debulk"),
    ("debridement", r"debrid|shav(?:er|ing)\b|microdebrider|curett|morcell|rasp\b|smoothed"),
    ("division", r"divid(?:ed|ing)|transect|\bcut\b|\bsevered\b|snip"),
    ("ligation", r"ligat(?:ed|ion|ure)|\bclip(?:s|ped)?\b|clamp(?:ed|s|ing)?\b|\btied\b"),
    ("stapling", r"\bstapl|endo-? ?gia|\bgia\b|\beea\b"),
    ("coagulation", r"cauter|coagulat|bovie|electrocaut|\blaser\b|coblat|fulgurat"),
    ("haemostasis", r"hemosta|haemosta|bleeding|bleeders?\b"),
    ("irrigation", r"irrigat|lavage|\bwashed\b|flushed|rinsed"),
    ("suction", r"suction|aspirat|evacuat|drained\b"),
    ("drilling", r"\bdrill|\bburr?\b|osteotom|\bchisel|\breamed|\breamer|\bsaw(?:ed|n| was)\b|gouge"),
    ("dilatation", r"dilat(?:ed|ion|ing|or|ors)|balloon|widened|was enlarged with"),
    ("reduction", r"reduc(?:ed|tion)\b|out-?fractur|in-?fractur|medializ|lateraliz|reposition|straighten"),
    ("fixation", r"\bscrews?\b|\bplates?\b|fixat|\bpins?\b|\bwires?\b|anchor(?:s|ed)?\b|secured\b|fixed\b"),
    ("grafting", r"\bgrafts?\b|harvest|\bmesh\b|implant|prosthe"),
    ("anastomosis", r"anastomos|bypass"),
    ("reconstruction", r"reconstruct|repair(?:ed)?\b|reattach|approximat(?:ed|ion)\b|reapproximat"),
    ("tube placement", r"\btubes?\b|\bstents?\b|\bsplints?\b"),
    ("drain placement", r"\bdrains?\b|penrose|jackson-pratt|hemovac"),
    ("extraction", r"\bextracted|retrieved|remov(?:ed|al|ing)\b|deliver(?:ed|y)\b|grasp(?:ed|ing)"),
    ("specimen", r"specimens?\b|patholog|\bsent (?:to|for|off)\b|frozen section"),
    ("packing", r"\bpack(?:ed|ing|s)?\b|gelfoam|nasopore|merocel|surgicel|sponges? (?:was|were) (?:placed|inserted)"),
    # Coming back
    ("closure", r"clos(?:ed|ure|ing)\b|sutur(?:e|es|ed|ing)\b|stitch|vicryl|monocryl|prolene|nylon|chromic|\bsewn\b"),
    ("dressing", r"dress(?:ing|ings|ed)\b|steri-?strips?|bandag|ointment|dermabond|\bcast\b|\bsling\b"),
    ("counts", r"\bcounts?\b|(?:needle|sponge)s? (?:and (?:needle|sponge)s? )?(?:was |were )?correct"),
    ("blood loss", r"blood loss|\bebl\b"),
    ("extubation", r"extubat|awaken|awoke|emerg(?:ed|ence)|reversed|woken|awake\b"),
    ("tolerance", r"tolerated|(?:stable|good|satisfactory) condition"),
    ("complications", r"complications?\b"),
    (
        "aftercare",
        r"discharg|follow(?:ed)?[- ]?up|postoperative(?:ly)? (?:instructions|care)|instructions|recommend"
        r"|will be (?:seen|admitted|kept|given|placed)|to be (?:seen|admitted)",
    ),
    ("end of operation", r"terminated|concluded|conclusion|completed?\b|end of the (?:procedure|case|operation)"),
    # What tells little by itself: any row above outranks these, wherever it matches
    ("manipulation", r"releas|\blift|\bpull|\bpush|rotat|\bflexed|sw(?:ept|eep)|\bspread\b|palpat|manipulat|created"),
    ("instrument placed", r"placed|inserted|introduced|applied|passed|advanced|\bused\b|utilized"),
    (
        "observation",
        r"\bnoted\b|\bseen\b|\bfound\b|reveal|appear|evidence|there (?:was|were|is|are)\b|normal|unremarkable"
        r"|intact|showed|encountered|\b(?:was|were) (?:\w+ly )?(?:clear|patent|present|midline|free|visible|severe)\b",
    ),
)
"""(code, pattern). Where two match at the same place the earlier row decides."""

KEYWORDS: tuple[str, ...] = (*(code for code, _ in RULES), OTHER)
"""The closed list."""

_COMPILED = tuple((code, re.compile(pattern, re.IGNORECASE)) for code, pattern in RULES)
_GENERIC = ("manipulation", "instrument placed", "observation")
"""Codes that any other action in the clause outranks, wherever it stands; among themselves in this order."""
_OPENING = re.compile(
    r"^(?:after|once|when|following|with|upon|under|prior to|having|using|at this (?:point|time))\b[^,]*,\s*",
    re.IGNORECASE,
)


def _first_action(clause: str) -> str | None:
    """The code whose pattern matches earliest in `clause`."""
    best, place, generic = None, len(clause) + 1, None
    for code, pattern in _COMPILED:
        match = pattern.search(clause)
        if match is None:
            continue
        if code in _GENERIC:
            generic = generic or code
        elif match.start() < place:
            best, place = code, match.start()
    return best or generic


def step_code(sentence: str) -> str:
    """The step that a sentence tells: one of `KEYWORDS`."""
    main = _OPENING.sub("", sentence)
    code = _first_action(main)
    if (code is None or code in _GENERIC) and main != sentence:
        code = _first_action(sentence) or code
    return code or OTHER
