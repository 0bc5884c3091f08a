"""What benchmarks/gpu.py checks and measures, a function each: Work in, a JSON object out."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from reference.redcnn import PlainREDCNN
from torch import distributed, nn

from pipeline.config.load import load_config
from pipeline.config.run import RunConfig
from pipeline.config.sections import Normalize
from pipeline.core.types import ImageHU, Json
from pipeline.core.volume import Volume, even_origins_mm
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.base import HUModel, ModelAdapter, build_model, place
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.models.computing.choice import synthetic_slice_hu
from pipeline.models.computing.ways import Way, computed_by, difference
from pipeline.models.redcnn import REDCNN
from pipeline.physics.lowdose import LowDoseCT
from pipeline.training.distributed import ParallelModel
from pipeline.training.loop import build_training
from pipeline.training.steps.base import Batch, Step

CONFIGS = Path(__file__).parents[1] / "configs"
SHIPPED = ("anydose", "redcnn", "swift")
GENERATIVE = ("vae_ct_gpu", "vqvae_ct_gpu", "progressive_ct_gpu", "denoise_pix2pix_gpu")
HU = Normalize(centre=0, scale=1000)
MIB = 2**20


@dataclass(frozen=True)
class Work:
    """What a part is given. device: "cuda" or "cpu". tiny: sizes at which a CPU shows in seconds
    that it runs, and no more. packed: of gpu_pack, or None; out: a folder for what is made.
    ends_at: by the clock (time.time), when all must be done."""

    device: str
    tiny: bool
    out: Path
    ends_at: float
    packed: Path | None = None

    @property
    def matrix(self) -> int:
        """Rows and columns of a slice."""
        return 64 if self.tiny else 512

    @property
    def repeats(self) -> int:
        return 1 if self.tiny else 10

    @property
    def compiles(self) -> bool:
        """Whether compiled ways are among those measured: compiling takes longer than all else."""
        return not self.tiny

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def wait(self) -> None:
        """Until the GPU has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, way: machine.Way) -> list[float]:
        """Of each of `repeats` runs, after one that is not counted."""
        taken = []
        for turn in range(self.repeats + 1):
            self.wait()
            began = time.perf_counter()
            way()
            self.wait()
            if turn:
                taken.append(time.perf_counter() - began)
        return taken

    def measured(self, way: machine.Way) -> Json:
        """Seconds and peak memory; what failed (too little memory, no compiler) instead."""
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            seconds = self.seconds(way)
        except (RuntimeError, ImportError) as error:
            return {"failed": " ".join(str(error).split())[:300]}
        peak = torch.cuda.max_memory_allocated() / MIB if self.on_gpu else machine.peak_mib()
        return {"seconds": seconds, "peak_mib": peak}


@contextmanager
def strict_fp32() -> Any:
    """Without TF32, which PyTorch's convolutions have on by default: 10 bits of a product's 23."""
    flags = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = flags


def device(work: Work) -> Json:
    """What computes."""
    if not work.on_gpu:
        return {"name": "CPU"}
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "memory_mib": properties.total_memory / MIB,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "bf16": torch.cuda.is_bf16_supported(),
    }


def parity(work: Work) -> Json:
    """How far the shipped weights' results here are from the CPU's in fp32, in HU."""
    image_hu = synthetic_slice_hu((work.matrix, work.matrix))[None]
    found: Json = {}
    for name in SHIPPED:
        model = load_pretrained(name).model
        on_cpu = place(copy.deepcopy(model), "cpu", channels_last=True).eval()
        here = place(model, work.device, channels_last=True).eval()
        reference_hu = apply_model(on_cpu, image_hu)[0]
        with strict_fp32():
            strict_hu = apply_model(here, image_hu)[0]
        ways = {
            "fp32": strict_hu,
            "fp32 with TF32": apply_model(here, image_hu)[0],
            "bf16": apply_model(computed_by(here, Way("bf16")), image_hu)[0],
        }
        found[name] = {way: _difference(output_hu, reference_hu) for way, output_hu in ways.items()}
    return found


def _difference(output_hu: ImageHU, reference_hu: ImageHU) -> Json:
    found = difference(output_hu, reference_hu)
    return {"voxel_hu": found.voxel_hu, "tissue_mean_hu": found.tissue_mean_hu}


def inference(work: Work) -> Json:
    """Seconds a slice, peak memory and the largest difference from plain fp32."""
    slices = 2 if work.tiny else 32
    image_hu = np.repeat(synthetic_slice_hu((work.matrix, work.matrix))[None], slices, axis=0)
    found: Json = {}
    for name, (plain, ours) in _denoisers(work).items():
        with strict_fp32():
            reference_hu = apply_model(plain, image_hu[:1])
        ways: dict[str, Callable[[], nn.Module]] = {
            "plain": lambda plain=plain: plain,
            "ours": lambda ours=ours: ours,
            "ours, bf16": lambda ours=ours: computed_by(ours, Way("bf16")),
        }
        if work.compiles:
            ways |= {
                "ours, compiled": lambda ours=ours: _compiled(ours),
                "ours, bf16, compiled": lambda ours=ours: _compiled(computed_by(ours, Way("bf16"))),
            }
        found[name] = {
            way: _inferred(work, make(), image_hu, reference_hu) for way, make in ways.items()
        }
    return found


def _inferred(work: Work, model: nn.Module, image_hu: ImageHU, reference_hu: ImageHU) -> Json:
    row = work.measured(partial(apply_model, model, image_hu, batch=2 if work.tiny else 8))
    if "failed" in row:
        return row
    difference_hu = np.abs(apply_model(model, image_hu[:1]) - reference_hu).max()
    each = [seconds / len(image_hu) for seconds in row.pop("seconds")]
    return {"seconds_per_slice": each, "largest_difference_hu": float(difference_hu), **row}


def _compiled(model: ModelAdapter) -> ModelAdapter:
    other = copy.deepcopy(model)
    other.network = torch.compile(other.network)  # type: ignore[assignment]
    return other


def _denoisers(work: Work) -> dict[str, tuple[ModelAdapter, ModelAdapter]]:
    """As PyTorch's layers lie in memory by default, and as the project places them."""
    torch.manual_seed(0)
    published = PlainREDCNN()
    own = REDCNN()
    own.load_state_dict(published.state_dict())
    both = {
        # The published network adds its input itself.
        "RED-CNN, 96 channels": (
            HUModel(published, normalize=HU, residual=False),
            HUModel(own, normalize=HU, residual=True),
        ),
        "anydose@pretrained": (load_pretrained("anydose").model, load_pretrained("anydose").model),
    }
    return {
        name: (
            place(plain, work.device, channels_last=False).eval(),
            place(ours, work.device, channels_last=True).eval(),
        )
        for name, (plain, ours) in both.items()
    }


def training(work: Work) -> Json:
    """Seconds a step, forward, back and update, of the two denoisers for a GPU."""
    found: Json = {}
    for name, batch, patch in (("denoise_redcnn_gpu", 32, 64), ("denoise_any_dose_gpu", 16, 128)):
        size = (2, 32) if work.tiny else (batch, patch)
        extra = {"dose_ratio": torch.full((size[0],), 4.0)} if "any_dose" in name else {}
        items = _noise(size, work) | {key: value.to(work.device) for key, value in extra.items()}
        rows = _step_rows(work, name, items)
        if name == "denoise_redcnn_gpu":
            rows = {"plain": work.measured(_plain_step(work, items))} | rows
        found[name] = rows
    return found


def _step_rows(work: Work, name: str, batch: Batch) -> Json:
    rows: Json = {}
    tiny = ["model.args.channels=8"] if work.tiny and "redcnn" in name else []
    for way, compiled, bf16 in (
        ("fp32", False, False),
        ("bf16", False, True),
        ("fp32, compiled", True, False),
        ("bf16, compiled", True, True),
    ):
        if compiled and not work.compiles:
            continue
        config = _run(work, name, f"train.compile={str(compiled).lower()}", *tiny)
        rows[way] = _measured_step(work, config, batch, bf16=bf16)
    return rows


def _measured_step(
    work: Work, config: RunConfig, batch: Batch, *, bf16: bool = False, turns: int = 1
) -> Json:
    """turns: iterations that are counted as one, such as those of both players of a GAN."""
    torch.manual_seed(0)
    model, step = build_training(config, work.device)
    model.train()

    def iterate() -> None:
        for _ in range(turns):
            one_step(step, batch, work.device, bf16=bf16)

    return work.measured(iterate)


def one_step(step: Step, batch: Batch, on: str, *, bf16: bool) -> dict[str, float]:
    """An iteration as pipeline.training.loop has it."""
    with torch.autocast(on, torch.bfloat16, enabled=bf16):
        metrics = step.backward(batch, share=1.0)
    return metrics | step.update()


def _plain_step(work: Work, batch: Batch) -> machine.Way:
    torch.manual_seed(0)
    network = PlainREDCNN().to(work.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)

    def run() -> None:
        optimiser.zero_grad()
        given, wanted = batch["input"] / 1000, batch["target"] / 1000
        nn.functional.mse_loss(network(given), wanted).backward()
        optimiser.step()

    return run


def _noise(size: tuple[int, int], work: Work) -> Batch:
    """{"input", "target"} of white noise, [batch, 1, patch, patch] in HU."""
    generator = torch.Generator().manual_seed(0)
    batch, patch = size
    target = 100 * torch.randn(batch, 1, patch, patch, generator=generator)
    noisy = target + 40 * torch.randn(batch, 1, patch, patch, generator=generator)
    return {"input": noisy.to(work.device), "target": target.to(work.device)}


def _run(work: Work, name: str, *changes: str) -> RunConfig:
    fixed = [f"train.device={work.device}", "train.precision=fp32", "train.workers=0"]
    return load_config(CONFIGS / f"{name}.yaml", [*fixed, *changes])


def volumes(work: Work) -> Json:
    """A step of the 3-D U-Net of configs/segment_organs.yaml."""
    changes = ["model.args.channels=[4, 8]", "model.args.strides=[2]"] if work.tiny else []
    config = _run(work, "segment_organs", *changes)
    patch = (8, 16, 16) if work.tiny else (32, 80, 80)
    generator = torch.Generator().manual_seed(0)
    batch = {
        "input": 300 * torch.randn(2, 1, *patch, generator=generator),
        "target": torch.randint(0, 4, (2, 1, *patch), generator=generator, dtype=torch.uint8),
    }
    here = {name: values.to(work.device) for name, values in batch.items()}
    ways = {"fp32": False} | ({"bf16": True} if work.on_gpu else {})
    return {way: _measured_step(work, config, here, bf16=bf16) for way, bf16 in ways.items()}


def generative(work: Work) -> Json:
    """A step of each generative configuration for a GPU. Diffusion: the project has none."""
    found: Json = {}
    for name in GENERATIVE:
        config = _run(work, name.removesuffix("_gpu") if work.tiny else name)
        size = getattr(getattr(config, "generation", None), "image_size", None) or config.data.patch
        batch = _noise((2 if work.tiny else config.train.batch, size[0]), work)
        batch["label"] = torch.zeros(len(batch["input"]), dtype=torch.int64, device=work.device)
        turns = 2 if "discriminator" in config.step.args else 1
        found[name] = _measured_step(work, config, batch, turns=turns) | {"iterations": turns}
    return found


def simulation(work: Work) -> Json:
    """A quarter of the dose, by torch here and by numba on the CPU, of the same draws."""
    slices = 2 if work.tiny else 16
    image_hu = np.repeat(synthetic_slice_hu((work.matrix, work.matrix))[None], slices, axis=0)
    affine = np.diag([0.74, 0.74, 2.5, 1.0])
    origins_mm = even_origins_mm(affine, slices)
    volume = Volume(image_hu, np.ones(image_hu.shape, dtype=bool), affine, origins_mm, {})
    rays: dict[str, int] = {"detectors": 64, "views": 48} if work.tiny else {}
    outputs, found = {}, Json()
    # "cuda", or on a CPU the same code of torch by the name of its device.
    for way, on in (("numba", "cpu"), ("torch", "cuda" if work.on_gpu else "cpu:0")):
        lowered = LowDoseCT(dose_fraction=0.25, device=on, **rays)
        run = partial(lambda model: model(volume, np.random.default_rng(0)), lowered)
        outputs[way] = run()
        seconds = work.seconds(run)
        found[way] = {"slices_per_s": [slices / taken for taken in seconds]}
    noise_hu = outputs["numba"] - image_hu
    difference_hu = np.abs(outputs["torch"] - outputs["numba"])
    return found | {
        "noise_hu": float(noise_hu.std()),
        "largest_difference_hu": float(difference_hu.max()),
    }


def nccl(work: Work) -> Json:
    """One process joined with itself: NCCL on a GPU, Gloo on a CPU. The gradients must be those
    without it, and what is summed over all processes must come back as it was."""
    backend = "cpu:gloo,cuda:nccl" if work.on_gpu else "gloo"
    config = _run(work, "denoise_swift")
    batch = _noise((2, 32 if work.tiny else 64), work)
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group(
            backend, init_method=f"file://{folder}/meet", rank=0, world_size=1
        )
        try:
            gradients = [_gradients(work, config, batch, joined=joined) for joined in (False, True)]
            figures = torch.arange(4.0, device=work.device)
            distributed.all_reduce(figures)
        finally:
            distributed.destroy_process_group()
    scale = max(float(one.abs().max()) for one in gradients[0])
    difference = max(float((a - b).abs().max()) for a, b in zip(*gradients, strict=True))
    return {
        "backend": backend,
        "sums_equal": figures.tolist() == [0, 1, 2, 3],
        "largest_gradient": scale,
        "largest_difference": difference,
    }


def _gradients(work: Work, config: RunConfig, batch: Batch, *, joined: bool) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = place(build_model(config), work.device, channels_last=False)
    wrapped: Any = ParallelModel(model) if joined else model
    with strict_fp32():
        nn.functional.mse_loss(wrapped(batch["input"]), batch["target"]).backward()
    return [one.grad.detach().clone() for one in model.parameters() if one.grad is not None]
