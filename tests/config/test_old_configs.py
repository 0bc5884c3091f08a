"""Configurations that the version before wrote, and those that it shipped, have their digests.

By a digest a registered version is known (and not trained once more), and a checkpoint is found.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import yaml
from helpers.upgrade import FIXTURES, in_todays_names, recorded

from pipeline.config.component import named
from pipeline.config.load import load_config, parse_config
from pipeline.config.names import digest, with_current_keys
from pipeline.config.sections import Component

CONFIGS = Path(__file__).parents[2] / "configs"
#: File name -> digest of load_config(file).resolved() by commit a1782d2.
SHIPPED = recorded("shipped-digests.json")
VERSIONS = recorded("registry/expected.json")["versions"]
#: What trained a version, or was interrupted, and where its digest was recorded.
WRITTEN = {
    "denoiser": VERSIONS["redcnn/1"]["tags"]["config_digest"],
    "denoiser_noise": VERSIONS["redcnn/2"]["tags"]["config_digest"],
    "segmenter": VERSIONS["organs/1"]["tags"]["config_digest"],
    "restorer": VERSIONS["sharpen/1"]["tags"]["config_digest"],
    "generator": VERSIONS["digits/1"]["tags"]["config_digest"],
    "interrupted": recorded("checkpoint/interrupted/expected.json")["config_digest"],
    "adversarial": recorded("checkpoint/adversarial/expected.json")["config_digest"],
}
REQUESTS = {"run": "redcnn/3", "restorer": "sharpen/1", "generator": "digits/1"}
#: Paths that the old code would have taken from a user's YAML, though none of ours named them.
USABLE = [
    "pipeline.degradations.blur.DefocusBlur",
    "pipeline.degradations.holes.MissingLines",
    "pipeline.degradations.holes.MissingPixels",
    "pipeline.degradations.noise.PoissonNoise",
    "pipeline.degradations.noise.SaltAndPepper",
    "pipeline.degradations.noise.Speckle",
    "pipeline.losses_segmentation.SoftDice",
    "pipeline.models.distributions.Bernoulli",
    "pipeline.models.distributions.Gaussian",
    "pipeline.models.vae.SpatialVAE",
    "pipeline.steps.objectives.Hinge",
    "pipeline.steps.objectives.Minimax",
]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_configuration_has_the_digest_of_the_version_before(name: str) -> None:
    now = digest(load_config(CONFIGS / name).resolved())
    assert now == SHIPPED[name], (
        f"configs/{name} no longer has the digest by which versions and checkpoints of sites that "
        "name it are found. Where only a class or a key has moved, add it to MOVED or RENAMED of "
        "pipeline/config/names.py. Where the file, or a default that it relies on, was changed on "
        f"purpose, drop its row from {FIXTURES.name}/shipped-digests.json: those sites train anew."
    )


@pytest.mark.parametrize("name", WRITTEN)
def test_a_configuration_has_its_old_digest_by_old_names_and_by_todays(name: str) -> None:
    path = FIXTURES / "configs" / f"{name}.yaml"
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    today = in_todays_names(with_current_keys(raw)[0])
    assert str(today).count("pipeline.") == 0
    assert today != raw
    for written in (raw, today):
        assert digest(parse_config(written).resolved()) == WRITTEN[name]


def test_an_old_key_is_told_of(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match="most_copies is now max_copies"):
        load_config(FIXTURES / "configs" / "generator.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_config(FIXTURES / "configs" / "denoiser.yaml")


@pytest.mark.parametrize("name", REQUESTS)
def test_the_request_of_an_old_run_is_the_configuration_of_its_version(name: str) -> None:
    config = parse_config(recorded(f"requests/{name}.json")["config"])
    expected = VERSIONS[REQUESTS[name]]["tags"]["config_digest"]
    assert digest(config.resolved()) == expected


@pytest.mark.parametrize("path", USABLE)
def test_a_path_that_a_user_may_have_written_still_names_a_class(path: str) -> None:
    assert isinstance(named(Component(target=path), key="model", base=object), type)
