"""Latent spaces, measured and drawn: `python benchmarks/latent.py digits|beta|plane|ct`.

digits  a conditional VAE of the digits that scikit-learn ships: are samples digits? controls too
beta    how many latents stay active as beta grows
plane   two latents trained on the KL term alone, on reconstruction alone, and on both
ct      a VAE of CT slices at 128 x 128 beside PCA with as many components, on a held-out patient

Each part writes benchmarks/results/latent_PART.json and pictures beside it, and resumes where it
was stopped. Trainings are sized for 10 minutes on 2 quiet cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC

from pipeline import latent
from pipeline.config import Normalize, Train, digest
from pipeline.evaluate_latent import (
    cliff,
    kl_divergence,
    lower_bound,
    pca_reconstruction,
    reconstruction_figures,
)
from pipeline.identity import installation_key
from pipeline.images import (
    WITH_LUNGS,
    WITHOUT_LUNGS,
    ImageItems,
    StoredSlices,
    jitter,
    lung_labels,
)
from pipeline.ingest import ingest
from pipeline.models.shell import HUModel
from pipeline.models.vae import VAE, ConvVAE, DenseVAE, SpatialVAE
from pipeline.pictures import Pictures, digits
from pipeline.report.generated import RECONSTRUCTED, save_grid, save_latent_plot
from pipeline.steps.variational import Variational
from pipeline.store import Store
from pipeline.train import Checkpoint, Loop, choose_device
from pipeline.units import SOFT_TISSUE, Window
from pipeline.versions import versions

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
GREY = Window(8, 16)
SHOWN = Window(-100, 1400)
WIDE = Window(0, 2000)
CONFIDENT = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/latent"))
    parser.add_argument("--iterations", type=int, help="fewer, for a trial")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    began, spent = time.time(), time.process_time()
    results = PARTS[arguments.part](arguments)
    results["minutes"] = (time.time() - began) / 60
    results["cpu_minutes"] = (time.process_time() - spent) / 60
    results["versions"] = versions()
    path = RESULTS / f"latent_{arguments.part}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def fit(
    name: str,
    make: Callable[[], VAE],
    items: Callable[[int], ImageItems],
    *,
    normalize: Normalize,
    arguments: argparse.Namespace,
    train: dict[str, Any],
    **step: Any,
) -> HUModel:
    """A VAE trained through the one loop; `items` gets how many the training will take."""
    if arguments.iterations:
        train = train | {"iterations": arguments.iterations}
    settings = Train(**train, precision="fp32", channels_last=False, clip_gradient_norm=10.0)
    torch.manual_seed(settings.seed)
    model = HUModel(make(), normalize=normalize, residual=False)
    identity = digest([name, settings.model_dump(), step])
    loop = Loop(
        model,
        Variational(model, settings, **step),
        choose_device(settings),
        settings,
        Checkpoint(arguments.work, identity),
    )

    def log(metrics: dict[str, float], iteration: int) -> None:
        if iteration % 500 == 0:
            parts = ", ".join(f"{key} {metrics[key]:.1f}" for key in ("reconstruction", "kl"))
            print(f"{name} {iteration}: {parts}", flush=True)

    done = loop.resume(log)
    loop.run(items(settings.iterations * settings.batch), start=done, log=log)
    return model.eval()


# --- digits ---------------------------------------------------------------------------------


def of_digits(
    name: str,
    training: Pictures,
    arguments: argparse.Namespace,
    *,
    latents: int,
    sigma: float,
    labels: int = 0,
    iterations: int = 3000,
    **step: Any,
) -> HUModel:
    return fit(
        name,
        lambda: DenseVAE((8, 8), latents, hidden=(256, 256), labels=labels, sigma=sigma),
        lambda length: ImageItems(training.images, training.labels, seed=0, length=length),
        normalize=Normalize(centre=0, scale=16),
        arguments=arguments,
        train={"iterations": iterations, "batch": 64, "lr": 1e-3, "log_every": 100},
        **step,
    )


def as_batch(pictures: Pictures) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures.images))[:, None]


def digits_part(arguments: argparse.Namespace) -> dict[str, Any]:
    training, test = digits().split()
    judge = Judge(training, test)
    told = of_digits(
        "conditional", training, arguments, latents=10, sigma=0.25, labels=10, warmup=500
    )
    free = of_digits("unconditional", training, arguments, latents=10, sigma=0.2, warmup=500)
    wanted = torch.arange(1000) % 10
    generator = torch.Generator().manual_seed(0)
    drawn = latent.sample(told, 1000, generator, wanted).clamp(0, 16)
    from_prior = latent.sample(free, 1000, generator).clamp(0, 16)
    codes = latent.encode(free, as_batch(training))
    like = latent.decode(free, latent.codes_like(codes, 1000, components=20, seed=0)).clamp(0, 16)
    held_back, labels = as_batch(test), torch.from_numpy(test.labels)
    results = {
        "judge": judge.facts(),
        "conditional": {
            **judge.of(drawn),
            "obeys_its_label": float(np.mean(judge.labels(drawn) == wanted.numpy())),
            "spread_of_real": spread(drawn, wanted.numpy()) / spread(held_back, test.labels),
            **bound_and_quality(told, held_back, labels),
        },
        "unconditional, from the prior": {
            **judge.of(from_prior),
            **bound_and_quality(free, held_back),
        },
        "unconditional, from a fitted mixture": judge.of(like),
        "interpolation": interpolations(free, told, test),
        "pca_10": quality(
            pca_reconstruction(
                np.stack(training.images), np.stack(test.images), components=10
            ),
            test,
        ),
    }
    draw_digits(told, free, test, drawn[:100])
    return results


class Judge:
    """A support vector machine with calibrated probabilities, trained on real digits alone."""

    def __init__(self, training: Pictures, test: Pictures) -> None:
        machine = CalibratedClassifierCV(SVC(C=10, gamma=0.0005), cv=5, ensemble=False)
        self.machine = machine.fit(np.stack(training.images).reshape(-1, 64), training.labels)
        self.training, self.test = training, test

    def labels(self, images: torch.Tensor) -> NDArray[np.int64]:
        return self.machine.predict(images.flatten(1).numpy())

    def of(self, images: torch.Tensor) -> dict[str, float]:
        """Which share is taken for a digit, and how the digits taken differ from the data's."""
        sure = self.machine.predict_proba(images.flatten(1).numpy()).max(axis=1) > CONFIDENT
        found = np.bincount(self.labels(images), minlength=10) / len(images)
        real = np.bincount(self.training.labels, minlength=10) / len(self.training)
        return {
            "confident_share": float(sure.mean()),
            "class_kl_nats": kl_divergence(found, real),
        }

    def facts(self) -> dict[str, Any]:
        """What it says of real digits, and of pictures that are none."""
        real = as_batch(self.test)
        generator = np.random.default_rng(0)
        flat = np.stack(self.training.images).reshape(-1, 64)
        normal = generator.multivariate_normal(flat.mean(0), np.cov(flat.T), 1000)
        pairs = flat[generator.integers(len(flat), size=(2, 1000))].mean(axis=0)
        controls = {
            "uniform noise": 16 * generator.random((1000, 64)),
            "a normal of the data's mean and covariance": normal.clip(0, 16),
            "two digits averaged": pairs,
        }
        return {
            "accuracy_on_real": float(np.mean(self.labels(real) == self.test.labels)),
            "confident_share_of_real": self.of(real)["confident_share"],
            "confident_share_of_controls": {
                name: self.of(torch.from_numpy(images).view(-1, 1, 8, 8))["confident_share"]
                for name, images in controls.items()
            },
        }


def spread(images: torch.Tensor, labels: NDArray[np.int64]) -> float:
    """How much images of one label differ: pixels' standard deviation, mean over labels."""
    flat = images.flatten(1).numpy()
    return float(np.mean([flat[labels == label].std(axis=0).mean() for label in range(10)]))


def quality(output: NDArray[np.float32], test: Pictures) -> dict[str, float]:
    return reconstruction_figures(output, np.stack(test.images), GREY)


def bound_and_quality(
    model: HUModel, images: torch.Tensor, labels: torch.Tensor | None = None
) -> dict[str, float]:
    """ELBO, bits, PSNR, SSIM and active latents of held-back digits."""
    bound = lower_bound(model, images, torch.Generator().manual_seed(0), labels=labels)
    output = latent.reconstruct(model, images, labels)[:, 0].numpy()
    figures = reconstruction_figures(output, images[:, 0].numpy(), GREY)
    use = latent.latent_use(model, images, labels)
    return {**bound, **figures, "active_latents": use.active()}


def interpolations(free: HUModel, told: HUModel, test: Pictures) -> dict[str, Any]:
    """Largest over mean step of 16 frames, over 300 pairs of held-back digits."""
    generator = np.random.default_rng(0)
    images, labels = as_batch(test), torch.from_numpy(test.labels)
    codes = {"unconditional": latent.encode(free, images)}
    codes["conditional, one label"] = latent.encode(told, images, labels)
    results = {}
    for name, ends in codes.items():
        for spherical in (False, True):
            steepest = []
            for first, last in generator.integers(len(images), size=(300, 2)):
                way = latent.interpolate(ends[first], ends[last], 16, spherical=spherical)
                label = labels[first].expand(16)
                given = () if name == "unconditional" else (label,)
                model = free if name == "unconditional" else told
                steepest.append(cliff(latent.decode(model, way, *given)[:, 0].numpy()))
            key = f"{name}, {'spherical' if spherical else 'straight'}"
            results[key] = {
                "median": float(np.median(steepest)),
                "largest": float(np.max(steepest)),
                "share_within_3": float(np.mean(np.array(steepest) <= 3)),
            }
    return results


def draw_digits(told: HUModel, free: HUModel, test: Pictures, drawn: torch.Tensor) -> None:
    images, labels = as_batch(test), torch.from_numpy(test.labels)

    def save(name: str, pictures: torch.Tensor, columns: int, caption: str, **more: Any) -> None:
        save_grid(
            pictures[:, 0].numpy(),
            RESULTS / f"latent_digits_{name}.png",
            window=GREY,
            columns=columns,
            caption=caption,
            **more,
        )

    save("samples", drawn, 10, "Conditional VAE: column n was asked for the digit n.")
    restored = latent.reconstruct(free, images[:10])
    save(
        "reconstructions",
        torch.cat([images[:10], restored]),
        10,
        "Top: held-back digits. Bottom: through 10 latents and back.",
        marking=RECONSTRUCTED,
    )
    codes = latent.encode(free, images)
    one_of_each = [int((labels == digit).nonzero()[0]) for digit in range(10)]
    pairs = zip(one_of_each[:5], one_of_each[5:], strict=True)
    ways = [latent.interpolate(codes[a], codes[b], 10) for a, b in pairs]
    save(
        "interpolation",
        latent.decode(free, torch.cat(ways)),
        10,
        "From a held-back digit (left) to another (right), straight in 10 latents.",
    )
    order = latent.latent_use(free, images).by_information()
    moved = [latent.traverse(codes[one_of_each[3]], number, steps=9) for number in order]
    save(
        "traversals",
        latent.decode(free, torch.cat(moved)),
        9,
        "A row for each latent, the most informative first: -3 to +3 sigma, the others fixed.",
    )
    wide = torch.from_numpy(stroke_pixels(test) > np.median(stroke_pixels(test)))
    bold = latent.attribute_vector(codes, wide)
    shares = torch.linspace(-2, 2, 9)[:, None]
    bolder = [codes[number] + shares * bold for number in one_of_each[:6]]
    save(
        "arithmetic",
        latent.decode(free, torch.cat(bolder)),
        9,
        "Code plus -2 to +2 times (mean of bold digits - mean of thin ones).",
    )


def stroke_pixels(pictures: Pictures) -> NDArray[np.int64]:
    """How many pixels of each digit are ink."""
    return (np.stack(pictures.images) > GREY.centre).sum(axis=(1, 2))


# --- beta and the plane ---------------------------------------------------------------------


def beta_part(arguments: argparse.Namespace) -> dict[str, Any]:
    training, test = digits().split()
    rows = {}
    for beta in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
        model = of_digits(
            f"beta {beta}",
            training,
            arguments,
            latents=10,
            sigma=0.2,
            iterations=2000,
            warmup=300,
            beta=beta,
        )
        figures = bound_and_quality(model, as_batch(test))
        use = latent.latent_use(model, as_batch(test))
        figures["variance_of_means"] = sorted(use.variance.tolist(), reverse=True)
        rows[str(beta)] = figures
        print(beta, figures["active_latents"], figures["kl"], figures["psnr"], flush=True)
    return {"threshold": latent.ACTIVE_VARIANCE, "latents": 10, "beta": rows}


def plane_part(arguments: argparse.Namespace) -> dict[str, Any]:
    training, test = digits().split()
    trainings = {
        "KL alone": {"reconstruction": 0.0},
        "reconstruction alone": {"beta": 0.0},
        "both": {"warmup": 500},
    }
    panels, figures = {}, {}
    for title, step in trainings.items():
        model = of_digits(title, training, arguments, latents=2, sigma=0.2, **step)
        codes = latent.encode(model, as_batch(test)).numpy()
        panels[title] = (codes, test.labels)
        figures[title] = bound_and_quality(model, as_batch(test)) | {
            "within_3_sigma": float(np.mean(np.linalg.norm(codes, axis=1) < 3.41)),
            "spread": float(codes.std()),
        }
        across = torch.linspace(-2.5, 2.5, 15)
        grid = torch.cartesian_prod(across, across)
        save_grid(
            latent.decode(model, grid)[:, 0].numpy(),
            RESULTS / f"latent_plane_{title.replace(' ', '_')}.png",
            window=GREY,
            columns=15,
            caption=f"The plane of two latents from -2.5 to 2.5, trained on: {title}.",
        )
    save_latent_plot(panels, RESULTS / "latent_plane.png")
    return figures


# --- CT -------------------------------------------------------------------------------------

TRAINING = ("chest-ge-lidc0001", "abdomen-ge-crlm1004", "head-ge-tilted")
TEST = "abdomen-ge-crlm1006"
SIZE = (128, 128)
CT = Normalize(centre=-500, scale=500)


def ct_part(arguments: argparse.Namespace) -> dict[str, Any]:
    store = Store(arguments.work / "store")
    keys = {
        name: ingest(arguments.data / "ct" / name, store, key=installation_key()).series[0][
            "series"
        ]
        for name in (*TRAINING, TEST)
    }
    training = StoredSlices(store, [keys[name] for name in TRAINING], SIZE)
    test = StoredSlices(store, [keys[TEST]], SIZE)
    results: dict[str, Any] = {"latents": {}, "pca": {}}
    target = np.stack([test[number] for number in range(len(test))])
    models = {name: ct_model(name, training, arguments) for name in CT_NETWORKS}
    for name, model in models.items():
        results["latents"][name] = ct_figures(model, target, lung_labels(test))
    components = sorted({row["numbers_per_image"] for row in results["latents"].values()})
    for count in components:
        results["pca"][str(count)] = pca_figures(training, target, count)
    results["lungs"] = lungs_as_asked(models["conv"])
    draw_ct(models, target, lung_labels(test))
    return results


CT_NETWORKS: dict[str, Callable[[], VAE]] = {
    "conv": lambda: ConvVAE(SIZE, 128, channels=(32, 64, 64, 64), labels=2, sigma=0.1),
    "spatial": lambda: SpatialVAE(SIZE, 2, channels=(8, 16, 32, 32, 32), sigma=0.1),
}


def ct_items(training: StoredSlices, length: int) -> ImageItems:
    turned = jitter(angle=0.15, scale=0.15, shift_pixels=10, mirror=True)
    return ImageItems(training, lung_labels(training), seed=0, length=length, augment=turned)


def ct_model(name: str, training: StoredSlices, arguments: argparse.Namespace) -> HUModel:
    return fit(
        f"ct {name}",
        CT_NETWORKS[name],
        lambda length: ct_items(training, length),
        normalize=CT,
        arguments=arguments,
        train={"iterations": 1200, "batch": 16, "lr": 2e-3, "warmup": 20},
        warmup=300,
    )


def given_labels(model: HUModel, labels: NDArray[np.int64]) -> torch.Tensor | None:
    return torch.from_numpy(labels) if model.network.labels else None


def ct_figures(
    model: HUModel, target: NDArray[np.float32], lungs: NDArray[np.int64]
) -> dict[str, Any]:
    images, labels = torch.from_numpy(target)[:, None], given_labels(model, lungs)
    output = latent.reconstruct(model, images, labels)[:, 0].numpy()
    bound = lower_bound(model, images, torch.Generator().manual_seed(0), labels=labels)
    return {
        "numbers_per_image": int(np.prod(model.network.latent_shape)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "active_latents": latent.latent_use(model, images, labels).active(),
        **bound,
        **in_windows(output, target),
    }


def in_windows(output: NDArray[np.float32], target: NDArray[np.float32]) -> dict[str, Any]:
    windows = {"-1000 to 1000 HU": WIDE, "soft tissue 40/400": SOFT_TISSUE}
    return {
        name: reconstruction_figures(output, target, window) for name, window in windows.items()
    }


def pca_figures(
    training: StoredSlices, target: NDArray[np.float32], components: int
) -> dict[str, Any]:
    """PCA of the slices themselves, and of as many jittered ones as it can use."""
    plain = np.stack([training[number] for number in range(len(training))])
    items = ct_items(training, 3000)
    jittered = np.stack([items[number]["target"][0].numpy() for number in range(len(items))])
    results = {
        "jittered slices": in_windows(pca_reconstruction(jittered, target, components), target)
    }
    if components <= len(plain):
        results["slices"] = in_windows(pca_reconstruction(plain, target, components), target)
    return results


def lungs_as_asked(model: HUModel) -> dict[str, float]:
    """How many of 100 samples show lungs where they were asked for, and where they were not."""
    generator = torch.Generator().manual_seed(0)
    shares = {}
    for name, label in (("asked for", WITH_LUNGS), ("not asked for", WITHOUT_LUNGS)):
        drawn = latent.sample(model, 100, generator, torch.full((100,), label))[:, 0].numpy()
        shares[name] = float(np.mean(lung_labels(drawn) == WITH_LUNGS))
    return shares


def draw_ct(models: dict[str, HUModel], target: NDArray, lungs: NDArray[np.int64]) -> None:
    chosen = np.linspace(0, len(target) - 1, 8).astype(int)
    shown = torch.from_numpy(target[chosen])[:, None]
    rows = [shown] + [
        latent.reconstruct(model, shown, given_labels(model, lungs[chosen]))
        for model in models.values()
    ]
    save_grid(
        torch.cat(rows)[:, 0].numpy(),
        RESULTS / "latent_ct_reconstructions.png",
        window=SHOWN,
        columns=8,
        caption=f"Top: held-out patient. Below, through the bottleneck and back: {', '.join(models)}.",
        marking=RECONSTRUCTED,
    )
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([WITH_LUNGS] * 16 + [WITHOUT_LUNGS] * 16)
    save_grid(
        latent.sample(models["conv"], 32, generator, labels)[:, 0].numpy(),
        RESULTS / "latent_ct_samples.png",
        window=SHOWN,
        columns=8,
        caption="Conditional VAE, from the prior: two rows asked to show lungs, two not to.",
    )


PARTS = {"digits": digits_part, "beta": beta_part, "plane": plane_part, "ct": ct_part}

if __name__ == "__main__":
    main()
