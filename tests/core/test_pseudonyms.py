"""Pseudonyms, and the key that keeps them."""

from __future__ import annotations

import stat

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import (
    installation_key,
    key_file,
    patient_pseudonym,
    pseudonym,
    unit_interval,
)

KEY, OTHER_KEY = b"k" * 32, b"l" * 32


def test_a_pseudonym_is_stable_under_a_key_and_another_under_another():
    assert pseudonym(KEY, "p", "LIDC-0001") == pseudonym(KEY, "p", "LIDC-0001")
    assert pseudonym(KEY, "p", "LIDC-0001") != pseudonym(OTHER_KEY, "p", "LIDC-0001")


def test_a_pseudonym_never_changes_between_versions():
    # RFC 2104 with SHA-256 over "LIDC-0001\0issuer", computed with openssl. A change here moves
    # every patient to a new pseudonym and so, perhaps, from training to test.
    assert pseudonym(KEY, "p", "LIDC-0001", "issuer") == "p-28f222cb73b5"
    assert patient_pseudonym(KEY, "LIDC-0001", "issuer") == "p-28f222cb73b5"


def test_the_same_number_of_two_issuers_is_two_patients():
    here, there = (patient_pseudonym(KEY, "4711", issuer) for issuer in ("A", "B"))
    assert here != there


def test_a_place_in_the_split_never_changes_between_versions():
    # HMAC-SHA-256 of "split\0p-1", first 8 bytes over 2^64, computed with openssl.
    assert unit_interval(KEY, "p-1") == 0xB0330DECD7FB40B0 / 2**64


def test_a_pseudonym_hides_its_parts_and_tells_them_apart():
    names = {
        pseudonym(KEY, "p", *parts)
        for parts in (("ab", "c"), ("a", "bc"), ("abc", ""), ("abc", "", ""), ("c", "ab"))
    }
    assert len(names) == 5
    assert "4711" not in pseudonym(KEY, "p", "4711")


def test_padding_blanks_do_not_make_another_patient():
    assert pseudonym(KEY, "p", "4711 ", "") == pseudonym(KEY, "p", "4711", "")


def test_the_key_is_made_once_and_only_its_owner_reads_it():
    key_file().unlink()
    key = installation_key()
    assert len(key) == 32
    assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
    assert installation_key() == key


def test_two_installations_have_two_keys(monkeypatch, tmp_path):
    first = installation_key()
    monkeypatch.setenv("LDCT_KEY_FILE", str(tmp_path / "folder to be made" / "other.key"))
    assert installation_key() != first


def test_a_short_key_is_refused_by_name():
    key_file().write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"patient\.key holds 5 bytes"):
        installation_key()
    assert key_file().read_bytes() == b"short"


def test_a_key_file_that_cannot_be_read_is_refused_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("LDCT_KEY_FILE", str(tmp_path))
    with pytest.raises(ConfigError, match="LDCT_KEY_FILE"):
        installation_key()


def test_places_in_the_split_are_fixed_by_the_key_and_evenly_spread():
    patients = [f"p-{n:012x}" for n in range(4000)]
    places = np.array([unit_interval(KEY, patient) for patient in patients])
    again = np.array([unit_interval(KEY, patient) for patient in patients])
    np.testing.assert_array_equal(places, again)
    # A fifth is 800 patients with a standard deviation of 25.
    assert np.abs(np.histogram(places, bins=5, range=(0, 1))[0] - 800).max() < 120
    other = np.array([unit_interval(OTHER_KEY, patient) for patient in patients])
    assert abs(np.corrcoef(places, other)[0, 1]) < 0.07
