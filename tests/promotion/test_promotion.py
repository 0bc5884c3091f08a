"""A challenger becomes champion by its merits; every act is on record, and can be taken back."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers.flows import identity_config
from torch import nn
from typer.testing import CliRunner

from flows.cli.app import app
from flows.tracking.promotion import AUDIT, Wish, altered_acts, audit, promote, rollback
from flows.tracking.registration import NewVersion, register
from flows.tracking.registry import CHALLENGER, CHAMPION, Registry
from pipeline.config.sections import DenoiseGate
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.verdicts import Check, Verdict
from pipeline.evaluation.aggregate import DenoisingOverall, DenoisingResult
from pipeline.evaluation.per_patient import PatientFigures, WindowFigures
from pipeline.evaluation.phantoms import measure_on_phantoms
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.card import ModelCard
from pipeline.promotion.acceptance import acceptance_checks
from pipeline.promotion.compare import compare, paired_interval, within_bounds
from pipeline.quality.nps import NoiseFigures
from pipeline.quality.phantom_metrics import PhantomArm, PhantomFigures, RodBias

SPREAD = (-1.0, -0.4, 0.0, 0.3, 1.1)


def patients(gain_db: float, *, lung_db: float = 0.0, spread: float = 0.0, count: int = 5):
    """Five patients of 20 dB, each brought to 30 dB and the gain over that."""
    return {
        f"p-{n}": PatientFigures(
            slices=1,
            windows={
                window: WindowFigures(
                    centre_hu=40,
                    width_hu=400,
                    input={"psnr": 20.0 + n},
                    output={"psnr": 30.0 + n + more},
                )
                for window, more in (
                    ("soft_tissue", gain_db + spread * SPREAD[n]),
                    ("lung", lung_db),
                )
            },
        )
        for n in range(count)
    }


def verdicts(challenger, champion) -> list[bool]:
    return [check.passed for check in compare(challenger, champion)]


def test_the_interval_is_of_the_mean_of_paired_differences():
    assert paired_interval(np.full(5, 0.25)) == (0.25, 0.25)
    drawn = np.random.default_rng(1).normal(0.5, 1, 400)
    low, high = paired_interval(drawn)
    # Against the normal approximation: 1.96 standard errors on both sides.
    error = drawn.std() / 20
    assert low == pytest.approx(drawn.mean() - 1.96 * error, abs=0.02)
    assert high == pytest.approx(drawn.mean() + 1.96 * error, abs=0.02)


def test_a_challenger_must_gain_surely_in_the_first_window_and_lose_in_none():
    champion = patients(0)
    assert verdicts(patients(0.2), champion) == [True, True]
    assert verdicts(patients(0), champion) == [False, True]
    assert verdicts(patients(0.2, spread=1), champion) == [False, True]  # not surely
    assert verdicts(patients(2.0, spread=1), champion) == [True, True]
    assert verdicts(patients(0.2, lung_db=-0.1), champion) == [True, False]


def test_pairing_sees_what_the_spread_of_patients_hides():
    """The patients differ by 4 dB among each other, the models by 0.1 dB on each."""
    (check, _) = compare(patients(0.1), patients(0))
    assert check.figure == pytest.approx(0.1)
    assert check.interval == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("challenger", "told"),
    [
        (patients(1, count=4), "5 patients, 4 in common"),
        ({**patients(1), "p-0": PatientFigures(slices=1, windows={})}, "the same windows"),
    ],
)
def test_figures_of_other_patients_are_no_comparison(challenger, told):
    (check,) = compare(challenger, patients(0))
    assert not check.passed
    assert told in check.limit


def test_other_noise_and_too_few_patients_are_no_comparison():
    other = patients(1)
    other["p-2"].windows["lung"].input["psnr"] += 0.01
    (check,) = compare(other, patients(0))
    assert "undenoised images" in check.limit
    (check,) = compare(patients(1, count=1), patients(0, count=1))
    assert "at least 2 patients" in check.limit


def on_phantoms(noise_hu: float, per_mm: float, **bias_hu: float) -> PhantomFigures:
    """Phantom figures of a model, of images with 40 HU of noise at 0.40 per mm, full dose 20."""
    measured = {
        "undenoised": (40.0, 0.40),
        "full_dose": (20.0, 0.40),
        "denoised": (noise_hu, per_mm),
    }
    rods = {"-1000 HU": 0.6, "-100 HU": 0.1, "60 HU": 0.1, "900 HU": -1.7}
    arms = {
        arm: PhantomArm.model_construct(
            noise_power=NoiseFigures.model_construct(
                noise_hu=noise, mean_frequency_per_mm=frequency
            ),
            rod_bias={
                rod: RodBias(
                    bias_hu=hu + bias_hu.get(rod, 0.0) * (arm == "denoised"),
                    region_pixels=18,
                    pixels=324,
                )
                for rod, hu in rods.items()
            },
        )
        for arm, (noise, frequency) in measured.items()
    }
    return PhantomFigures.model_construct(**arms)


def failed(*figures, gate: DenoiseGate = DenoiseGate(max_abs_hu_bias=2.0)) -> list[str]:  # noqa: B008
    champion = figures[1] if len(figures) > 1 else None
    checks = within_bounds(figures[0], gate, champion)
    return [check.name for check in checks if not check.passed]


def test_noise_may_neither_grow_nor_become_too_coarse():
    assert failed(on_phantoms(40.0, 0.40)) == []  # an identity
    assert failed(on_phantoms(12.0, 0.17)) == []  # RED-CNN, as in the README
    assert failed(on_phantoms(41.0, 0.40)) == ["noise in water, HU"]
    assert failed(on_phantoms(5.0, 0.13)) == ["mean frequency of the noise in water, 1/mm"]
    (told,) = failed(on_phantoms(12.0, 0.17), on_phantoms(15.0, 0.20))
    assert told.endswith("against the champion")
    assert failed(on_phantoms(12.0, 0.185), on_phantoms(15.0, 0.20)) == []


def test_a_model_may_add_no_bias_beyond_its_gate_whatever_the_scanner_has():
    assert failed(on_phantoms(12, 0.3, **{"900 HU": 1.9})) == []
    assert failed(on_phantoms(12, 0.3, **{"900 HU": -2.1})) == ["HU bias added in a rod of 900 HU"]
    only_fat = DenoiseGate(max_abs_hu_bias={"fat": 1.0})
    assert failed(on_phantoms(12, 0.3, **{"900 HU": 50.0, "-100 HU": 0.9}), gate=only_fat) == []
    assert len(failed(on_phantoms(12, 0.3, **{"-100 HU": 1.1}), gate=only_fat)) == 1


CARD = ModelCard("identity", 1, "0" * 64, "0" * 64, "0" * 64, 0)


@pytest.mark.parametrize("residual", [False, True])
def test_the_acceptance_checks_pass_an_identity_and_fail_what_breaks(residual: bool) -> None:
    """Most shipped denoisers are residual: their adapter must pass as well."""
    config = identity_config()
    step = config.step.model_copy(update={"args": {"residual": residual}})
    config = config.model_copy(update={"step": step})
    assert [check.passed for check in acceptance_checks(build_model(config), CARD, config)] == [
        True
    ] * 3

    class Halving(nn.Module):
        """A network that crops odd sizes, as one with strides does."""

        adds_input = True

        def forward(self, image):
            rows, columns = (side // 2 * 2 for side in image.shape[2:])
            return image[:, :, :rows, :columns]

    odd, identity, export = acceptance_checks(Halving(), CARD, config)
    assert not odd.passed
    assert "slices" in odd.limit
    assert identity.passed
    assert export.passed  # of an even size


@functools.cache
def identity_on_phantoms() -> PhantomFigures:
    config = identity_config()
    return measure_on_phantoms(build_model(config), config, slices=2)


@pytest.fixture
def phantoms_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every version here is the same network: its phantoms are measured once, for real."""
    monkeypatch.setattr(
        "pipeline.promotion.acceptance.measure_on_phantoms", lambda *_, **__: identity_on_phantoms()
    )


def registered(gain_db: float, *, gate: bool = True) -> int:
    """A version of the identity model with such figures; returns its number."""
    config = identity_config()
    registry = Registry.default()
    window = WindowFigures(
        centre_hu=40.0,
        width_hu=400.0,
        input={"psnr": 22.0, "ssim": 0.5, "rmse_hu": 50.0},
        output={"psnr": 32.0 + gain_db, "ssim": 0.9, "rmse_hu": 10.0},
    )
    figures = DenoisingResult(
        overall=DenoisingOverall(windows={"soft_tissue": window}), patients=patients(gain_db)
    )
    verdict = Verdict.of([Check("HU bias in bone", 9.0, "|bias| <= 2", passed=gate)])
    with registry.run(config, data_digest="0" * 64) as run:
        new = NewVersion(build_model(config), config, "0" * 64, figures, verdict, SEEN)
        return register(registry, run, new).version


SEEN = {"series": 1, "scanner": {"GE A": 1}, "kernel": {"B": 1}, "tube voltage": {"120": 1}}


def serving() -> int:
    return int(Registry.default().find("identity").version)


@pytest.mark.usefixtures("own_registry", "phantoms_once")
def test_promote_refuse_force_roll_back_and_read_it_all(tmp_path: Path):
    registry = Registry.default()
    assert [registered(0), registered(1), registered(0.5), registered(2, gate=False)] == [
        1,
        2,
        3,
        4,
    ]
    assert serving() == 1  # the first that passed
    with pytest.raises(ConfigError, match="no champion of before"):
        rollback(registry, "identity", "")

    done = promote(registry, Wish("identity", 2, "more sharpness"))
    assert (done.verdict.passed, done.record.before, serving()) == (True, 1, 2)
    assert done.to_dict()["against"] == 1
    assert registry.find("identity/2").tags["promotion"] == "passed"
    with pytest.raises(ConfigError, match="champion already"):
        promote(registry, Wish("identity", 2))

    with pytest.raises(LdctError, match="version 3 is not promoted: PSNR against the champion"):
        promote(registry, Wish("identity", 3))
    with pytest.raises(LdctError, match=r"HU bias in bone.*gate at registration"):
        promote(registry, Wish("identity", 4))
    assert serving() == 2
    tags = registry.find("identity/4").tags
    assert tags["promotion"] == "failed"
    assert tags["promotion_reasons"].startswith("HU bias in bone: 9.00, |bias| <= 2")
    with pytest.raises(ConfigError, match="--force needs a --reason"):
        Wish("identity", 4, force=True)
    assert promote(registry, Wish("identity", 4, "for a study", force=True)).record.forced is True
    assert serving() == 4

    assert rollback(registry, "identity", "too smooth").version == 2
    assert serving() == 2
    assert rollback(registry, "identity", "").version == 1
    assert serving() == 1
    acts = audit(registry, "identity")
    assert [(act.act, act.version) for act in acts] == [
        ("promote", 2),
        ("refuse", 3),
        ("refuse", 4),
        ("promote", 4),
        ("rollback", 2),
        ("rollback", 1),
    ]
    assert [act.reason for act in acts if act.act == "promote"] == [
        "more sharpness",
        "for a study",
    ]
    shown = CliRunner().invoke(app, ["models", "audit", "identity", "--json"])
    assert json.loads(shown.stdout) == {
        "name": "identity",
        "acts": [asdict(act) for act in acts],
        "altered": [],
    }


@pytest.mark.usefixtures("own_registry", "phantoms_once")
def test_the_audit_outlives_its_tags() -> None:
    registered(0), registered(1)
    registry = Registry.default()
    promote(registry, Wish("identity", 2, "better"))
    rollback(registry, "identity", "worse after all")
    acts, client = audit(registry, "identity"), registry.client
    first, second = sorted(
        tag for tag in client.get_registered_model("identity").tags if tag.startswith(AUDIT)
    )
    client.delete_registered_model_tag("identity", first)
    changed = client.get_registered_model("identity").tags[second].replace("worse", "better")
    client.set_registered_model_tag("identity", second, changed)
    assert audit(registry, "identity") == acts
    assert altered_acts(registry, "identity") == acts
    lines = CliRunner().invoke(app, ["models", "audit", "identity"]).stdout.splitlines()
    assert len(lines) == 2
    assert all("its tag in the registry was changed or removed since" in line for line in lines)


@pytest.mark.usefixtures("own_registry", "phantoms_once")
def test_by_the_commands(tmp_path: Path):
    registered(0), registered(1)
    assert CHALLENGER in Registry.default().find("identity/2").aliases
    assert Registry.default().load("identity/2").card.seen == SEEN
    runner = CliRunner()
    before = runner.invoke(app, ["models", "audit", "identity"]).stdout
    assert before == (
        "identity: no promotion, refusal or rollback yet; champion: version 1, by its gate\n"
    )
    promoted = runner.invoke(app, ["models", "promote", "identity", "2", "--reason", "better"])
    assert promoted.exit_code == 0, promoted.output
    assert "identity version 2 is the champion; before it: 1" in promoted.stdout
    assert set(Registry.default().find("identity/2").aliases) == {CHAMPION}
    back = runner.invoke(app, ["models", "rollback", "identity"])
    assert "version 1 is the champion again, instead of 2" in back.stdout
    refused = runner.invoke(app, ["models", "promote", "identity", "9"])
    assert isinstance(refused.exception, ConfigError)
