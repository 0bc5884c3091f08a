"""A signal ends the process also where Python lost what its handler raised."""

from __future__ import annotations

import os
import signal
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prefect.utilities.engine import capture_sigterm

from flows.hospital.watched import ended_by_sigterm
from flows.runtime.lost_signals import raise_lost_signals_again


class Thing:
    """What is referred to weakly."""


@contextmanager
def signalled_in_a_callback(number: signal.Signals) -> Iterator[None]:
    """Where Python can only write what the handler raises."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), number))
    del thing
    assert reference() is None, "the handler's exception was lost"
    yield


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """As a process is that was not started in the background, where SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def job_of_prefect() -> Iterator[None]:
    """Which passes the signal on to the process around it."""
    with ended_by_sigterm(), capture_sigterm():
        yield


@pytest.mark.parametrize(
    ("number", "handler", "raised"),
    [
        (signal.SIGINT, ended_by_ctrl_c, KeyboardInterrupt),
        (signal.SIGTERM, ended_by_sigterm, SystemExit),
        (signal.SIGTERM, job_of_prefect, SystemExit),
    ],
)
def test_a_signal_lost_in_a_callback_is_raised_again(monkeypatch, capfd, number, handler, raised):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    raise_lost_signals_again()
    with pytest.raises(raised), handler(), signalled_in_a_callback(number):
        time.sleep(30)
    assert capfd.readouterr().err == ""


def test_what_else_a_callback_raises_is_said_as_before(monkeypatch, capfd):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    raise_lost_signals_again()
    raise_lost_signals_again()
    thing = Thing()
    reference = weakref.ref(thing, lambda _: 1 / 0)
    del thing
    assert reference() is None
    assert capfd.readouterr().err.count("ZeroDivisionError") == 1
