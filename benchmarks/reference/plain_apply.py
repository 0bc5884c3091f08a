"""A denoiser over a folder of CT as a script of thirty lines has it, without any check.

python plain_apply.py SOURCE OUT WEIGHTS    # weights of swift@pretrained
"""

import sys
from pathlib import Path

import numpy as np
import pydicom
import torch
from pydicom.uid import generate_uid
from safetensors.torch import load_file

from pipeline.models.swift import SwiftUNet

source, out, weights = map(Path, sys.argv[1:])
out.mkdir()
network = SwiftUNet().eval()
state = load_file(weights)
network.load_state_dict({name.removeprefix("network."): one for name, one in state.items()})
slices = [pydicom.dcmread(path) for path in source.glob("*.dcm")]
slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
uid = generate_uid()
for number, one in enumerate(slices):
    slope, intercept = float(one.RescaleSlope), float(one.RescaleIntercept)
    image_hu = torch.from_numpy(one.pixel_array.astype(np.float32) * slope + intercept)
    with torch.inference_mode():
        seen = image_hu[None, None] / 1000
        denoised_hu = ((seen + network(seen)) * 1000)[0, 0].numpy()
    stored = ((denoised_hu - intercept) / slope).round().clip(-(2**15), 2**15 - 1)
    one.PixelData, one.SeriesInstanceUID = stored.astype(np.int16).tobytes(), uid
    one.PixelRepresentation, one.SOPInstanceUID = 1, generate_uid()
    one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one.save_as(out / f"{number:04d}.dcm")
