"""The words of `facts`: structures with their synonyms, findings, actions, and the cues of status and negation.

Structures carry their name of Terminologia Anatomica, else that of the European Position Paper on the nomenclature of
the nose and sinuses (Lund et al. 2014); synonyms are the usual clinical words. Phrases are written in the singular and
in lower case; `facts` brings sentences into the same form.
"""

from __future__ import annotations

STRUCTURES: dict[str, tuple[str, ...]] = {
    "nasal septum": ("septum", "septal", "nasoseptal", "septal cartilage", "quadrangular cartilage"),
    "inferior nasal concha": ("inferior concha", "inferior turbinate"),
    "middle nasal concha": ("middle concha", "middle turbinate"),
    "superior nasal concha": ("superior concha", "superior turbinate"),
    "nasal concha": ("concha", "turbinate", "nasal turbinate"),
    "middle nasal meatus": ("middle meatus", "meatus"),
    "inferior nasal meatus": ("inferior meatus",),
    "uncinate process": ("uncinate",),
    "ethmoidal bulla": ("bulla ethmoidalis", "ethmoid bulla", "bulla"),
    "opening of maxillary sinus": (
        *("maxillary ostium", "maxillary sinus ostium", "ostium of the maxillary sinus", "maxillary opening"),
        *("opening of the maxillary sinus", "natural opening of the maxillary sinus", "natural opening"),
        *("natural ostium", "maxillary hiatus"),
    ),
    "maxillary sinus": ("maxillary antrum", "antrum", "maxillary window", "maxillary antrostomy"),
    "anterior ethmoidal cell": (
        *("anterior ethmoid", "anterior ethmoid cell", "anterior ethmoid air cell", "anterior ethmoidal air cell"),
        *("cell before the lamella", "anterior and posterior ethmoid", "anterior and posterior ethmoid air cell"),
        *("anterior and posterior ethmoidal cell", "anterior and posterior ethmoid cell"),
    ),
    "posterior ethmoidal cell": (
        *("posterior ethmoid", "posterior ethmoid cell", "posterior ethmoid air cell", "posterior ethmoidal air cell"),
        *("posterior cell", "anterior and posterior ethmoid", "anterior and posterior ethmoid air cell"),
        *("anterior and posterior ethmoidal cell", "anterior and posterior ethmoid cell"),
    ),
    "ethmoidal cell": ("ethmoid", "ethmoid cell", "ethmoid air cell", "ethmoid sinus", "ethmoidal sinus"),
    "basal lamella of middle concha": (
        *("basal lamella", "ground lamella", "basal lamella of the concha", "basal lamella of the middle concha"),
        *("basal lamella of the middle turbinate", "basal lamella of concha"),
    ),
    "opening of sphenoidal sinus": (
        *("sphenoid ostium", "sphenoid opening", "sphenoid sinus ostium", "natural opening of the sphenoid"),
        *("opening of the sphenoid", "sphenoidal ostium", "opening of the sphenoid sinus"),
    ),
    "sphenoidal sinus": ("sphenoid", "sphenoid sinus"),
    "orbital plate of ethmoid": ("orbital plate", "lamina papyracea", "medial orbital wall"),
    "roof of ethmoid": (
        *("roof of the ethmoid", "ethmoid roof", "skull base", "fovea ethmoidalis", "at the roof", "from the roof"),
        "roof of type",
    ),
    "anterior ethmoidal artery": ("anterior ethmoid artery", "anterior artery"),
    "posterior ethmoidal artery": ("posterior ethmoid artery", "posterior artery"),
    "frontal recess": ("nasofrontal recess", "nasofrontal duct", "frontal outflow tract"),
    "frontal sinus": ("frontal opening", "opening of the frontal sinus", "frontal ostium", "frontal floor"),
    "paranasal sinus": ("sinus", "sinus ostium"),
    "choana": ("posterior naris", "posterior nares"),
    "nasal cavity": (
        *("nose", "nasal passage", "nasal airway", "naris", "nares", "nostril", "nasal fossa", "nasal vault"),
        "nasal passageway",
    ),
    "nasal bone": (),
    "nasal cartilage": ("upper lateral cartilage", "lower lateral cartilage", "alar cartilage"),
    "nasopharynx": (),
    "palatine tonsil": (
        *("tonsil", "tonsillar", "tonsillar fossa", "tonsil fossa", "tonsillar pillar", "tonsil pillar"),
        *("peritonsillar", "anterior pillar", "posterior pillar", "tonsillar bed"),
    ),
    "pharyngeal tonsil": ("adenoid", "adenoid pad", "adenoid bed", "adenoid tissue"),
    "lingual tonsil": (),
    "soft palate": ("velum",),
    "hard palate": (),
    "uvula": (),
    "oropharynx": ("throat", "oropharyngeal"),
    "hypopharynx": (),
    "oral cavity": ("mouth",),
    "tongue": (),
    "larynx": ("subglottic", "subglottis", "supraglottis", "supraglottic", "glottis"),
    "epiglottis": (),
    "vocal fold": ("vocal cord", "true vocal cord", "true cord", "true vocal fold"),
    "vestibular fold": ("false cord", "false vocal cord", "false vocal fold"),
    "arytenoid cartilage": ("arytenoid",),
    "trachea": ("tracheal ring", "tracheal lumen", "tracheal wall", "tracheal airway", "tracheal window"),
    "oesophagus": ("esophagus",),
    "auricle": ("ear", "pinna", "auricular", "earlobe"),
    "external acoustic meatus": ("ear canal", "external auditory canal", "external canal", "external auditory meatus"),
    "tympanic membrane": ("drum", "eardrum", "ear drum", "tympanic"),
    "tympanic cavity": ("middle ear", "middle ear space"),
    "auditory ossicle": ("ossicle", "malleus", "incus", "stapes", "footplate"),
    "mastoid process": ("mastoid", "mastoid cavity", "mastoid antrum"),
    "parotid gland": ("parotid",),
    "thyroid gland": ("thyroid",),
    "facial nerve": (),
}
"""Canonical name -> further words for it; the canonical name is always one."""

FINDINGS: dict[str, tuple[str, ...]] = {
    "polyp": ("polyposis", "polypoid", "polypoid mucosa", "polypoid tissue"),
    "secretion": ("drainage", "discharge"),
    "mucus": ("mucoid",),
    "pus": ("purulent", "purulence", "mucopurulent"),
    "oedema": ("edema", "oedematous", "edematous", "swelling", "swollen"),
    "bleeding": ("bleeder", "oozing", "ooze", "haemorrhage", "hemorrhage"),
    "spur": (),
    "deviation": ("deviated", "bent", "deflection", "displaced to the"),
    "cyst": (),
    "fungal debris": ("fungus", "fungal"),
    "debris": (),
    "complication": (),
    "cerebrospinal fluid": ("csf leak", "csf", "clear fluid", "leak"),
    "orbital fat": (),
    "perforation": ("perforated eardrum",),
    "lesion": (),
    "ulcer": ("ulceration",),
    "mass": ("tumor", "tumour"),
    "scar": ("scarring", "scar tissue", "adhesion", "synechia"),
    "erythema": ("redness",),
    "granulation": ("granulation tissue", "granuloma"),
    "exudate": (),
    "obstruction": ("obstructed", "blocked", "blockage"),
    "abnormality": (),
    "hypertrophy": ("hypertrophic", "hypertrophied", "enlarged"),
    "accessory opening": ("accessory ostium",),
    "concha bullosa": (),
    "agger nasi": ("agger nasi cell",),
    "infraorbital cell": ("haller cell", "cell below the orbit"),
    "sphenoethmoidal cell": ("onodi cell", "cell above the sphenoid"),
    "cholesteatoma": (),
}
"""As STRUCTURES: what can be there or not."""

VALUES: tuple[dict[str, tuple[str, ...]], ...] = (
    {"grade 1": (), "grade 2": (), "grade 3": (), "grade 4": ()},
    {"keros i": (), "keros ii": (), "keros iii": ()},
    {"draf i": (), "draf iia": (), "draf iib": (), "draf iii": ()},
    {"wide": ("roomy",), "narrow": ("narrowed", "tight")},
    {"healthy": (), "oedematous mucosa": ("edematous mucosa",), "polypoid mucosa": ()},
    {"clear secretion": (), "mucoid secretion": (), "purulent secretion": ()},
    {"intact": (), "dehiscent": ("breached",)},
    {"preserved": (), "trimmed": ()},
    {"within its canal": ("under bone",), "hanging free": ()},
    {"straight septum": ("septum straight",), "deviated": ("bent",)},
    {"partially visible": (), "visible": ()},
)
"""Groups of values that exclude one another."""

ACTIONS: dict[str, str] = {
    "inspect": r"inspect(?:ed|ion)?|examin(?:ed?|ation|ing)|endoscopy|laryngoscopy|bronchoscopy|explor(?:ed|ation)"
    r"|palpat(?:ed|ion)|evaluated|followed forward",
    "inject": r"inject(?:ed|ion)|infiltrat(?:ed|ion)|local anaesthetic|localized with",
    "incise": r"incis(?:ed?|ion|ing)|myringotomy|osteotom(?:y|ie)|tympanotomy",
    "open": r"opened|opening up|to open|open up|reopened|enter(?:ed)|perforated|widen(?:ed)?|enlarged with"
    r"|expanded|antrostomy|sphenoidotomy"
    r"|sinusotomy|passage through|fenestration|tracheostomy was|created? a (?:tracheal )?window|drainage of|draf \w+"
    r"|canalplasty|breached",
    "remove": r"remov(?:ed?|al|ing)|excis(?:ed?|ion)|resect(?:ed|ion)?|take(?:n)? down|taking down|takedown|took down"
    r"|(?:take|took|taken) out|\w+ectomy|harvest(?:ed|ing)?|stripped|strip|amputat(?:ed|ion)|debrided|trimmed"
    r"|ablat(?:ed|ion)|extracted|cleared|reduced by|smoothed|turbinoplasty|conchoplasty|tissue was taken|sucked off",
    "dissect": r"dissect(?:ed|ion)?|elevat(?:ed?|ion)|undermined|freed|to free|released|lifted up|separated|raised"
    r"|exposure of|skeletonized",
    "move": r"medializ(?:ed|ation)|medialis(?:ed|ation)|retract(?:ed|ion)|pushed|moved|outfractur(?:ed?|ing)"
    r"|infractured|advanced forward|mobiliz(?:ed|ing|ation)|brought forward|hold open",
    "coagulate": r"coagulat(?:ed|ion)|cauteriz(?:ed|ing|ation)|electrocauterization|hemostasis|haemostasis"
    r"|hemostatically|bleeding (?:was |were )?(?:then )?(?:similarly )?controlled|ablated with electrocautery",
    "irrigate": r"irrigat(?:ed?|ion)|rinsed|washed|lavage",
    "suction": r"suctioned|suction carried|evacuated|aspirated|sucked|suction revealed|with a large suction"
    r"|by the suction|removed by suction",
    "pack": r"packed|packing|pledget (?:was |were )?(?:then )?(?:reinserted|placed|inserted)|dressing|band - aid"
    r"|gelfoam|absorbable sponge",
    "place": r"placed(?! (?:\w+ )?(?:on|in)? ?(?:table |a |the )*(?:in )?(?:the )?(?:supine|seated))|placement"
    r"|insert(?:ed)?|introduced|passed into|spacer",
    "close": r"clos(?:ed|ure)|sutur(?:ed|ing)|(?:re)?approximat(?:ed?|ing)|repair|stitch|tied",
    "biopsy": r"biops(?:y|ie|ied)|tissue sample|sent (?:to pathology|a)|sent for histology",
    "straighten": r"septoplasty|septorhinoplasty|straightened|to correct",
    "decongest": r"decongest(?:ed|ion)|afrin|oxymetazoline|cocaine|vasoconstrict\w*",
    "anaesthetise": r"intubat(?:ed|ion)|anesthetized|(?:anesthesia|anaesthesia) (?:was |were )?(?:then )?"
    r"(?:obtained|administered|induced|given|begun|established)|induction of|given general|anesthesia was",
    "prepare": r"prepped|repositioned|draped|supine|positioned|seated position|rotated \d+ degree"
    r"|shoulder roll|turned \d+ degree"
    r"|turned to \d+|fowler ' s position",
    "transfer": r"(?:brought|taken|returned|transferred|transported) (?:back )?to|left the operating room|awakened"
    r"|extubated|recovery room|to recovery",
    "navigate": r"navigation",
}
"""Canonical action -> what says it, as regular expressions over the singular form."""

IMPLIED: dict[str, tuple[str, ...]] = {
    "uncinectomy": ("uncinate process",),
    "anterior ethmoidectomy": ("anterior ethmoidal cell",),
    "posterior ethmoidectomy": ("posterior ethmoidal cell",),
    "ethmoidectomy": ("ethmoidal cell",),
    "antrostomy": ("maxillary sinus",),
    "sphenoidotomy": ("sphenoidal sinus",),
    "septoplasty": ("nasal septum",),
    "septorhinoplasty": ("nasal septum",),
    "tonsillectomy": ("palatine tonsil",),
    "adenoidectomy": ("pharyngeal tonsil",),
    "myringotomy": ("tympanic membrane",),
    "mastoidectomy": ("mastoid process",),
    "laryngoscopy": ("larynx",),
    "tracheostomy was": ("trachea",),
    "turbinectomy": ("nasal concha",),
    "polypectomy": ("polyp",),
}
"""Operations named after what they are done to."""

NOT_STRUCTURES = (
    *("ear , nose", "nose , and throat", "throat pack", "tracheostomy tube", "tracheal hook", "endotracheal"),
    *("mouth gag", "mouth guard", "tonsil sponge", "tonsillar sponge", "septal knife", "thyroid cartilage"),
    *("concha bullosa", "agger nasi", "cricothyroid", "crural footplate"),
)
"""Instruments, departments and other phrases in which a structure's word names no structure."""

HISTORY = (
    r"history of|previou(?:s|sly)?(?! incision in)|prior(?! to)|operated on before|in the past|known (?:from|to have)"
    r"|years? ago|had undergone|revision case"
)
ACTED = (
    r"made|done|performed|complet(?:ed?|es)|accomplished|administered|given|utilized|was used|were used"
    r"|secured|created"
    r"|proceeded|applied|used|sent|fashioned|grasped|filled|cut|covered|marked|attached|switched|reached"
    r"|gently|cleaned"
    r"|checked|confirm(?:s|ed)?|controlled|produced|change to"
)
SEEN = (
    r"seen|noted|found|identified|visible|visuali[sz]ed|reveal(?:ed)?|show(?:ed|s|n)?|appear(?:ed|s)?|evidence of"
    r"|evident|demonstrated|encountered|present|contain(?:s|ed)?|there (?:was|were|is|are) (?!no\b)"
    r"|appreciated|exposed"
    r"|intact|patent|correct|suspected|localized|free(?! of| from)|lie|inside|within|oedematous|edematous"
    r"|blocked by|mucoid|purulent"
    r"|clear|pneumati[sz]ed|reach over"
)
DONE_TO = (
    r"(?:was|were|been|being) (?:\w+ly |then |also |first |again |very |all )*"
    r"(?:\w+ed|taken|brought|withdrawn|set)"
)
"""The passive: something was done, unless the verb is one of seeing or of a state."""
STATES = (
    r"(?:deviated|enlarged|hypertrophied|noted|identified|visuali[sz]ed|encountered|revealed|demonstrated|appreciated"
    r"|located|obstructed|perforated|scarred|inflamed|related|swollen|exposed|localized|displaced|dilated"
    r"|supposed|seen"
    r"|fixed|turned|directed)"
)
PLANNED = (
    r"will be (?:\w+ )?(?:admitted|sent|discharged|followed|seen|placed|given)|is planned"
    r"|attention (?:was |were )?(?:then )?(?:was )?(?:re - )?(?:turned|directed)"
)

NEGATIONS = (
    *("no evidence of", "no sign of", "absence of", "free of", "negative for", "without evidence of", "without any"),
    *("without", "no", "not", "never", "neither", "nor", "nothing", "none", "denied", "deny", "lack of", "cannot"),
)
"""NegEx's triggers that stand before what they negate, the longest first."""
PSEUDO_NEGATIONS = (
    *("not only", "no increase", "no change", "not certain whether", "not necessarily", "no .", "gram negative"),
    *("no 1", "no 2"),
)
"""Look like negations and are none."""
NEGATED_BEFORE = (
    *("not seen", "not present", "not identified", "not found", "not visible", "not necessary", "not required"),
    *(
        "not needed",
        "not pneumatised",
        "not pneumatized",
        "not noted",
        "not encountered",
        "not observed",
        "absent",
        "ruled out",
        "omitted",
        "not performed",
    ),
)
"""Triggers that stand behind what they negate."""
TERMINATIONS = ("but", "however", "except", "although", "though", "yet", "which", "then", "because", "since", ";", ".")
"""Words at which a negation's reach ends."""
