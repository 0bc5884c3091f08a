"""Where the registry is, as a run's closing table tells it."""

from __future__ import annotations

import pytest

from flows.tracking.registry import Registry


@pytest.mark.parametrize(
    ("uri", "where", "how"),
    [
        (
            "sqlite:////data/m.db",
            "/data/m.db",
            "mlflow ui --backend-store-uri sqlite:////data/m.db",
        ),
        ("https://me:secret@host:5000/m?key=secret", "https://host:5000/m", "open it in a browser"),
        ("postgresql+pg8000://me:secret@host/mlflow", "postgresql+pg8000://host/mlflow", ""),
    ],
)
def test_it_is_told_without_passwords(uri: str, where: str, how: str) -> None:
    assert Registry(uri, None).location == (where, how)


def test_it_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/own.db")
    assert Registry.default().location[0] == f"{tmp_path}/own.db"
