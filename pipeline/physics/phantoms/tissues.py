"""The materials of the phantom, in HU at 120 kV.

Attenuation of the tissues after ICRU Report 44 (1989); enhanced blood and organs as textbooks of
abdominal CT quote them for the arterial and portal venous phases.
"""

from __future__ import annotations

import numpy as np

from pipeline.physics.phantoms.canvas import Label, Tissue

# blood and organs in HU: without contrast, arterial phase, portal venous phase
PHASES: dict[str, dict[str, float]] = {
    "native": {
        "aorta": 45, "vein": 43, "lung_vessel": 45, "myocardium": 50, "liver": 60,
        "hepatic": 43, "spleen": 50, "cortex": 36, "medulla": 30, "pancreas": 40, "lesion": 38,
    },
    "arterial": {
        "aorta": 250, "vein": 75, "lung_vessel": 190, "myocardium": 105, "liver": 70,
        "hepatic": 66, "spleen": 112, "cortex": 165, "medulla": 62, "pancreas": 100, "lesion": 45,
    },
    "portal": {
        "aorta": 150, "vein": 150, "lung_vessel": 145, "myocardium": 100, "liver": 105,
        "hepatic": 160, "spleen": 120, "cortex": 175, "medulla": 145, "pancreas": 95, "lesion": 75,
    },
}  # fmt: skip

# tissues that take up contrast: label and grain in HU; their HU are in _PHASES
_PERFUSED: dict[str, tuple[Label, float]] = {
    "aorta": (Label.BLOOD, 0),
    "vein": (Label.BLOOD, 0),
    "lung_vessel": (Label.LUNG_VESSEL, 0),
    "myocardium": (Label.MYOCARDIUM, 4),
    "liver": (Label.LIVER, 4),
    "hepatic": (Label.LIVER_VESSEL, 0),
    "lesion": (Label.LIVER_LESION, 4),
    "spleen": (Label.SPLEEN, 5),
    "cortex": (Label.KIDNEY_CORTEX, 4),
    "medulla": (Label.KIDNEY_MEDULLA, 4),
}

# materials that are the same in everybody
_TISSUES: dict[str, Tissue] = {
    "couch": Tissue(Label.COUCH, -180),
    "foam": Tissue(Label.COUCH, -930),
    "air": Tissue(Label.AIR, -1000),
    "skin": Tissue(Label.SKIN, 30),
    "fat": Tissue(Label.FAT, -105, 5, 5.0, -18),
    "wall": Tissue(Label.MUSCLE, 45, 3, 3.0),
    "disc": Tissue(Label.CARTILAGE, 85, 8, 4.0),
    "cartilage": Tissue(Label.CARTILAGE, 105, 12, 3.0),
    "canal": Tissue(Label.SPINAL_CANAL, 12),
    "cord": Tissue(Label.SPINAL_CANAL, 38),
    "gland": Tissue(Label.GLAND, -15, 45, 5.0),
    "fissure": Tissue(Label.LUNG, -640),
    "airway_wall": Tissue(Label.AIRWAY, -40),
    "airway": Tissue(Label.AIRWAY, -985),
    "oesophagus": Tissue(Label.OESOPHAGUS, 38),
    "gallbladder": Tissue(Label.GALLBLADDER, 8),
    "stomach": Tissue(Label.STOMACH, 55),
    "meal": Tissue(Label.STOMACH, 18, 14, 5.0),
    "bowel": Tissue(Label.BOWEL, 55),
    "chyme": Tissue(Label.BOWEL, 20, 8, 4.0),
    "stool": Tissue(Label.BOWEL, 25, 25, 3.0, 160),
    "gas": Tissue(Label.GUT_GAS, -960),
}


def draw_tissues(generator: np.random.Generator, *, phase: str) -> dict[str, Tissue]:
    """The table of materials; contrast, bone and lung differ from patient to patient."""
    enhance = 1.0 if phase == "native" else generator.normal(1, 0.06)
    hu = {name: min(value * enhance, 250) for name, value in PHASES[phase].items()}
    drawn = {
        name: Tissue(label, hu[name], grain, 3.0) for name, (label, grain) in _PERFUSED.items()
    }
    return (
        _TISSUES
        | drawn
        | {
            "muscle": Tissue(Label.MUSCLE, 58, 4, 2.5, generator.uniform(15, 60)),
            "cortical_bone": Tissue(Label.CORTICAL_BONE, generator.uniform(950, 1250), 90, 3.0),
            "marrow": Tissue(Label.TRABECULAR_BONE, generator.uniform(160, 270), 45, 1.6),
            "lung": Tissue(Label.LUNG, generator.uniform(-865, -800), 22, 3.0),
            "pancreas": Tissue(Label.PANCREAS, hu["pancreas"], 10, 2.5, 45),
            "pulmonary": Tissue(Label.BLOOD, hu["lung_vessel"]),
        }
    )
