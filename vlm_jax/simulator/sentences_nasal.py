"""Step codes and wordings of S0 to S4: inspection to antrostomy."""

from __future__ import annotations

from vlm_jax.simulator.keyword import Keyword as K

NASAL: tuple[K, ...] = (
    K(
        "decongestion",
        (0,),
        (
            "decongestion with soaked cottonoids, good effect",
            "nose decongested on both sides with pledgets",
            "topical decongestion of the nasal mucosa completed",
        ),
        lateral=False,
        needs="first side",
    ),
    K(
        "nasal inspection",
        (0,),
        (
            "inspection of the cavity, {v} secretion seen",
            "endoscopy shows {v} secretion at the concha",
            "nasal cavity inspected, secretion {v}",
        ),
        ("nasal cavity inspected, no secretion seen", "endoscopy without any secretion in the cavity"),
        finding="secretion",
    ),
    K(
        "septal deviation",
        (0,),
        ("septum deviated to the {v}", "deviation of the nasal septum to the {v}", "nasal septum bent towards the {v}"),
        ("septum straight and in the midline", "no relevant deviation of the nasal septum"),
        finding="septum",
        lateral=False,
    ),
    K(
        "septal spur",
        (0,),
        ("bony spur of the septum low down", "septal spur seen above the floor"),
        ("septum smooth, no spur seen", "no spur along the septum"),
        finding="spur",
        share=0.5,
    ),
    K(
        "polyp grade",
        (0,),
        ("polyps in the middle meatus, {v}", "polyposis of the meatus, {v}", "meatus holds polyps of {v}"),
        ("middle meatus free, no polyps seen", "no polyps in the middle meatus"),
        finding="polyps",
    ),
    K(
        "secretion",
        (0, 1),
        ("{v} secretion sucked off the concha", "secretion {v}, removed by suction"),
        ("no secretion on the inferior concha", "concha dry, no secretion"),
        finding="secretion",
        share=0.4,
    ),
    K(
        "choana",
        (0,),
        ("choana reached and {v}", "choana {v} on passing the floor", "posterior nares seen, choana {v}"),
        finding="choana",
    ),
    K(
        "infiltration",
        (1,),
        (
            "infiltration of the lateral wall with adrenaline",
            "local anaesthetic with adrenaline injected",
            "infiltration at the axilla of the concha",
        ),
    ),
    K(
        "polypectomy",
        (1,),
        ("polyps {v} removed from the meatus{tool}", "polypectomy of the middle meatus, {v}{tool}"),
        ("no polyps, polypectomy not necessary", "polypectomy omitted, meatus without polyps"),
        finding="polyps",
        phase="before",
    ),
    K("biopsy", (1,), ("biopsy taken from the meatus{tool}", "tissue sample sent for histology{tool}"), share=0.3),
    K(
        "medialisation",
        (2,),
        (
            "middle concha gently moved towards the septum{tool}",
            "medialisation of the middle concha{tool}",
            "concha pushed medially, view into the meatus{tool}",
        ),
        phase="after",
    ),
    K(
        "concha bullosa",
        (2,),
        ("middle concha is a concha bullosa", "concha bullosa found, meatus narrow"),
        ("middle concha slim, not pneumatised", "no concha bullosa present"),
        finding="concha bullosa",
        share=0.6,
    ),
    K(
        "conchoplasty",
        (2,),
        ("lateral lamella of the concha trimmed{tool}", "conchoplasty of the middle concha done{tool}"),
        share=0.3,
    ),
    K(
        "uncinate incision",
        (3,),
        ("uncinate process incised along its front edge{tool}", "incision of the uncinate process{tool}"),
        phase="before",
    ),
    K(
        "uncinectomy",
        (3,),
        (
            "uncinate process removed, opening {v}{tool}",
            "uncinectomy done, natural opening {v}{tool}",
            "uncinate taken down, maxillary opening {v} behind it{tool}",
        ),
        finding="maxillary opening",
        phase="after",
    ),
    K(
        "maxillary opening",
        (4,),
        ("natural opening of the maxillary sinus {v}{tool}", "maxillary opening identified and {v}{tool}"),
        finding="maxillary opening",
        phase="before",
    ),
    K(
        "accessory opening",
        (0, 4),
        ("accessory opening seen in the fontanelle", "fontanelle with an accessory opening"),
        ("no accessory opening in the fontanelle", "fontanelle closed, no accessory opening"),
        finding="accessory opening",
        share=0.4,
    ),
    K(
        "antrostomy",
        (4,),
        (
            "middle antrostomy created, {v} access{tool}",
            "maxillary window opened, now {v}{tool}",
            "antrostomy at the natural opening, {v} result{tool}",
        ),
        finding="antrostomy",
        phase="after",
    ),
    K(
        "maxillary content",
        (4,),
        ("maxillary sinus contains {v}{tool}", "{v} found within the maxillary sinus{tool}"),
        ("maxillary sinus empty, mucosa calm{tool}", "nothing retained in the maxillary sinus{tool}"),
        finding="maxillary content",
    ),
    K(
        "maxillary irrigation",
        (4,),
        ("maxillary sinus irrigated with saline until clear", "irrigation of the maxillary sinus"),
        phase="after",
        share=0.5,
    ),
)
