"""TotalSegmentator's classes (version 2, task `total`), as its label files and weights number them.

Wasserthal et al., Radiology: Artificial Intelligence 2023; the table is of TotalSegmentator,
Apache-2.0. Every name has DICOM codes (pipeline.dicom.derived.structure_codes).
"""

from __future__ import annotations

_SIDES = ("left", "right")
_RIGHT_FIRST = ("right", "left")


def _both(name: str, order: tuple[str, str] = _SIDES) -> tuple[str, str]:
    first, second = order
    return f"{name}_{first}", f"{name}_{second}"


_ORGANS = (
    "spleen",
    *_both("kidney", _RIGHT_FIRST),
    "gallbladder",
    "liver",
    "stomach",
    "pancreas",
    *_both("adrenal_gland", _RIGHT_FIRST),
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
    "esophagus",
    "trachea",
    "thyroid_gland",
    "small_bowel",
    "duodenum",
    "colon",
    "urinary_bladder",
    "prostate",
    *_both("kidney_cyst"),
)
_SPINE = (
    "sacrum",
    "vertebrae_S1",
    *(f"vertebrae_L{n}" for n in range(5, 0, -1)),
    *(f"vertebrae_T{n}" for n in range(12, 0, -1)),
    *(f"vertebrae_C{n}" for n in range(7, 0, -1)),
)
_VESSELS = (
    "heart",
    "aorta",
    "pulmonary_vein",
    "brachiocephalic_trunk",
    *_both("subclavian_artery", _RIGHT_FIRST),
    *_both("common_carotid_artery", _RIGHT_FIRST),
    *_both("brachiocephalic_vein"),
    "atrial_appendage_left",
    "superior_vena_cava",
    "inferior_vena_cava",
    "portal_vein_and_splenic_vein",
    *_both("iliac_artery"),
    *_both("iliac_vena"),
)
_LIMBS_AND_MUSCLES = (
    *_both("humerus"),
    *_both("scapula"),
    *_both("clavicula"),
    *_both("femur"),
    *_both("hip"),
    "spinal_cord",
    *_both("gluteus_maximus"),
    *_both("gluteus_medius"),
    *_both("gluteus_minimus"),
    *_both("autochthon"),
    *_both("iliopsoas"),
)
_HEAD_AND_RIBS = (
    "brain",
    "skull",
    *(f"rib_left_{n}" for n in range(1, 13)),
    *(f"rib_right_{n}" for n in range(1, 13)),
    "sternum",
    "costal_cartilages",
)
#: Class n is number n - 1 of these.
CLASSES = (*_ORGANS, *_SPINE, *_VESSELS, *_LIMBS_AND_MUSCLES, *_HEAD_AND_RIBS)
