"""What a structure's name means, in codes: SNOMED CT by the dictionary that pydicom keeps.

Categories are of CID 7150, types of CID 7151 and those it includes, sides of CID 244. A name
that the dictionary has no concept for takes a wider one that holds it: a rib is coded as rib
and side, a muscle of the back as skeletal muscle; the name itself is the segment's label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipeline.core.errors import ConfigError

STRUCTURE = codes.SCT.AnatomicalStructure
ABNORMAL = codes.SCT.MorphologicallyAbnormalStructure
TISSUE = codes.SCT.Tissue
SIDES = {"left": codes.SCT.Left, "right": codes.SCT.Right, "both": codes.SCT.Bilateral}

#: Name without its side -> concept. TotalSegmentator's classes, and common groups of them.
ORGANS = {
    "adrenal_gland": "AdrenalGland",
    "airways": "AirwayStructure",
    "aorta": "Aorta",
    "atrial_appendage_left": "LeftAuricularAppendage",
    "autochthon": "SkeletalMuscle",
    "body": "EntireBody",
    "brachiocephalic_trunk": "BrachiocephalicTrunk",
    "brachiocephalic_vein": "BrachiocephalicVein",
    "brain": "Brain",
    "clavicula": "Clavicle",
    "colon": "Colon",
    "common_carotid_artery": "CommonCarotidArtery",
    "costal_cartilages": "CostalCartilage",
    "duodenum": "Duodenum",
    "esophagus": "Esophagus",
    "femur": "Femur",
    "gallbladder": "Gallbladder",
    "gluteus_maximus": "SkeletalMuscle",
    "gluteus_medius": "SkeletalMuscle",
    "gluteus_minimus": "SkeletalMuscle",
    "heart": "Heart",
    "hip": "Hip",
    "humerus": "Humerus",
    "iliac_artery": "IliacArtery",
    "iliac_vena": "IliacVein",
    "iliopsoas": "SkeletalMuscle",
    "inferior_vena_cava": "InferiorVenaCava",
    "kidney": "Kidney",
    "liver": "Liver",
    "lung": "Lung",
    "lung_lower_lobe": "LowerLobeOfLung",
    "lung_middle_lobe_right": "MiddleLobeOfRightLung",
    "lung_upper_lobe": "UpperLobeOfLung",
    "pancreas": "Pancreas",
    "portal_vein_and_splenic_vein": "Vein",
    "prostate": "Prostate",
    "pulmonary_vein": "PulmonaryVein",
    "rib": "Rib",
    "sacrum": "Sacrum",
    "scapula": "Scapula",
    "skull": "Skull",
    "small_bowel": "SmallIntestine",
    "spinal_cord": "SpinalCord",
    "spine": "Spine",
    "spleen": "Spleen",
    "sternum": "Sternum",
    "stomach": "Stomach",
    "subclavian_artery": "SubclavianArtery",
    "superior_vena_cava": "SuperiorVenaCava",
    "vena_cava": "VenaCava",
    "thyroid_gland": "Thyroid",
    "trachea": "Trachea",
    "urinary_bladder": "Bladder",
    "vertebra": "Vertebra",
    "vertebrae_s1": "Sacrum",
    **{f"vertebrae_c{n}": f"C{n}Vertebra" for n in range(1, 8)},
    **{f"vertebrae_t{n}": f"T{n}Vertebra" for n in range(1, 13)},
    **{f"vertebrae_l{n}": f"L{n}Vertebra" for n in range(1, 6)},
}
#: Plurals: the organs of both sides together.
PAIRS = {
    "adrenal_glands": "adrenal_gland",
    "femurs": "femur",
    "hips": "hip",
    "humeri": "humerus",
    "kidneys": "kidney",
    "lungs": "lung",
    "ribs": "rib",
}
#: Other names of structures, by the name that is used here.
SYNONYMS = {
    "back_muscles": "autochthon",
    "bladder": "urinary_bladder",
    "bones": "bone",
    "gluteal_muscles": "gluteus_maximus",
    "muscles": "muscle",
    "vertebrae": "vertebra",
}
TISSUES = {"bone": "BoneTissue", "fat": "AdiposeTissue", "muscle": "MuscleTissue"}
#: Abnormalities; an organ's name before one is its place: `kidney_cyst_left`.
LESIONS = {
    "cyst": "Cyst",
    "lesion": "Lesion",
    "mass": "Mass",
    "nodule": "Nodule",
    "tumor": "Neoplasm",
    "tumour": "Neoplasm",
}


@dataclass(frozen=True)
class Anatomy:
    """A structure in codes: its category and type, its side, and the organ of an abnormal one."""

    category: Code
    type: Code
    side: Code | None = None
    region: Code | None = None


def has_codes(name: str) -> bool:
    """Whether codes_of has codes for a structure's name."""
    return _anatomy(_normalised(name)) is not None


def codes_of(name: str) -> Anatomy:
    """The codes of a structure, by its name in any case of letters.

    Raises ConfigError for a name without.
    """
    found = _anatomy(_normalised(name))
    if found is None:
        raise ConfigError(
            f"no code for the structure {name!r}: name it as one of {', '.join(sorted(ORGANS))}, "
            f"with _left or _right, or of {', '.join([*PAIRS, *SYNONYMS, *TISSUES, *LESIONS])}, or "
            "give its codes"
        )
    return found


def _normalised(name: str) -> str:
    plain = re.sub(r"[\s_-]+", "_", name.strip().casefold())
    return SYNONYMS.get(plain, plain)


def _anatomy(name: str) -> Anatomy | None:
    if name in ORGANS:
        return Anatomy(STRUCTURE, _concept(ORGANS[name]))
    if name in TISSUES:
        return Anatomy(TISSUE, _concept(TISSUES[name]))
    if name in PAIRS:
        return Anatomy(STRUCTURE, _concept(ORGANS[PAIRS[name]]), SIDES["both"])
    words = name.split("_")
    side = next((SIDES[word] for word in words if word in ("left", "right")), None)
    base = "_".join(word for word in words if word not in ("left", "right"))
    if re.fullmatch(r"rib_\d+", base):
        base = "rib"
    organ, _, last = base.rpartition("_")
    last = last if last in LESIONS else last.removesuffix("s")
    if last in LESIONS and organ in ("", *ORGANS):
        region = _concept(ORGANS[organ]) if organ else None
        return Anatomy(ABNORMAL, _concept(LESIONS[last]), side, region)
    return Anatomy(STRUCTURE, _concept(ORGANS[base]), side) if side and base in ORGANS else None


def _concept(keyword: str) -> Code:
    return getattr(codes.SCT, keyword)
