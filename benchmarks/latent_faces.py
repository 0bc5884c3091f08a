"""From "no face" to "face" along an attribute vector: does a classifier see it?

    ldct run configs/vae_faces.yaml --out OUT
    python benchmarks/latent_faces.py vae_faces OUT/store

The vector is of the training pictures' codes. A support vector machine, trained on the training
pictures, judges the held-back ones without a face, moved by 0 to 2 times the vector, and by as
much in random directions as the control. Writes results/latent_faces.json and .png.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from generative_training import picture_grid
from numpy.typing import NDArray
from sklearn.svm import SVC

from flows.latent import load_generator
from pipeline.config.task_runs import GenerateRun
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.units import Window
from pipeline.evaluation.generation import stored_images, training_keys
from pipeline.evaluation.latent import pca_reconstruction, reconstruction_figures
from pipeline.generative import latent
from pipeline.ingest.bundled_pictures import FACE
from pipeline.models.adapters.generative import Generative
from pipeline.report.latent_views import held_back_keys
from pipeline.store.store import Store

RESULTS = Path(__file__).parent / "results"
SHARES = (0.0, 0.5, 1.0, 1.5, 2.0)
DIRECTIONS, WHITE, ROWS = 200, 255.0, 8


@dataclass(frozen=True)
class Side:
    """Pictures [count, 1, rows, columns] of one side of the split, and which show a face."""

    images: torch.Tensor
    has: torch.Tensor

    @classmethod
    def of(cls, store: Store, keys: list[str], config: GenerateRun) -> Side:
        images, labels = stored_images(store, keys, config)
        stacked = np.stack([images[number] for number in range(len(images))])
        return cls(torch.from_numpy(stacked)[:, None], torch.from_numpy(labels == FACE))


class Judge:
    """A support vector machine that has seen the training pictures alone."""

    def __init__(self, training: Side) -> None:
        self.machine = SVC(C=10).fit(_flat(training.images), training.has.numpy())

    def share(self, images: torch.Tensor) -> float:
        """Of the pictures, those that it takes for faces."""
        return float(self.machine.predict(_flat(images)).mean())

    def accuracy(self, side: Side) -> float:
        return float((self.machine.predict(_flat(side.images)) == side.has.numpy()).mean())


def _flat(images: torch.Tensor) -> NDArray[np.float64]:
    return images.flatten(1).double().numpy() / WHITE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("store", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, _, config = load_generator(arguments.model)
    store = Store.existing(arguments.store)
    training = Side.of(store, training_keys(store), config)
    held_back = Side.of(store, held_back_keys(store), config)
    found = {"figures": figures(model, training, held_back), "machine": machine.facts()}
    (RESULTS / "latent_faces.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["figures"], indent=2))


def figures(model: Generative, training: Side, held_back: Side) -> dict[str, Any]:
    """Shares that the judge takes for faces, by how far the codes were moved."""
    judge = Judge(training)
    vector = latent.attribute_vector(latent.encode(model, training.images), training.has)
    codes = latent.encode(model, held_back.images[~held_back.has])
    random = torch.randn(DIRECTIONS, *vector.shape, generator=torch.Generator().manual_seed(0))
    random *= vector.norm() / random.flatten(1).norm(dim=1)[:, None]
    moved = {share: latent.decode(model, codes + share * vector) for share in SHARES}
    rows = [[moved[share][row, 0].numpy() for share in SHARES] for row in range(ROWS)]
    originals = held_back.images[~held_back.has][:ROWS, 0].numpy()
    shown = [[original, *row] for original, row in zip(originals, rows, strict=True)]
    picture_grid(shown, RESULTS / "latent_faces.png", low=0, high=WHITE, zoom=3)
    return {
        "pictures": {"training": len(training.has), "held_back": len(held_back.has)},
        "judge_right_on_held_back_pictures": judge.accuracy(held_back),
        "judge_right_on_their_reconstructions": judge.accuracy(
            Side(latent.reconstruct(model, held_back.images), held_back.has)
        ),
        "reconstruction_psnr_db": _psnr(model, training, held_back),
        "taken_for_faces": {str(share): judge.share(moved[share]) for share in SHARES},
        "taken_for_faces_in_random_directions": {
            str(share): float(
                np.mean([judge.share(latent.decode(model, codes + share * one)) for one in random])
            )
            for share in SHARES
        },
        "vector_length": float(vector.norm()),
    }


def _psnr(model: Generative, training: Side, held_back: Side) -> dict[str, float | None]:
    """Of held-back pictures through the codes and back, and from as many principal components."""
    truth, window = held_back.images[:, 0].numpy(), Window(WHITE / 2, WHITE)
    components = int(np.prod(model.latent_shape))
    answers = {
        "vae": latent.reconstruct(model, held_back.images)[:, 0].numpy(),
        "pca": pca_reconstruction(training.images[:, 0].numpy(), truth, components),
    }
    return {
        name: reconstruction_figures(list(images), list(truth), window).psnr
        for name, images in answers.items()
    }


if __name__ == "__main__":
    keep_freed_memory()
    main()
