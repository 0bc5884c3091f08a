"""Alerts by mail and webhook: once for each condition, again when it changed, never in the way."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from helpers.mail import HookServer, MailServer, serving
from helpers.pacs import free_port, self_signed, series_of, settings, write_ct
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError
from typer.testing import CliRunner

from flows.cli.app import app
from flows.hospital import alerts as module
from flows.hospital.alerts import AlertWatch, alerting, failed_job
from pipeline.core.errors import ConfigError
from pipeline.pacs.messages.alert_channels import send
from pipeline.pacs.settings.alerts import Alerts
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger

SECRETS = ("SECRET-4711", "Geheim", "826.0.1.3680043", "Chest")
MAIL = {"sender": "ldct@example.org", "to": ["pacs@example.org"], "timeout_s": 5}


def mail_on(server: MailServer, security: str = "none", **more: object) -> dict:
    return {
        "mail": {**MAIL, "host": "127.0.0.1", "port": server.port, "security": security, **more}
    }


def hospital(folder: Path, alerts: dict, **more: object) -> Pacs:
    return settings(folder / "work", alerts={"site": "test", "gather_s": 0, **alerts, **more})


def dead(chosen: Pacs, folder: Path, number: int) -> str:
    """Another series failed for good, by an error that quotes a path."""
    series = series_of(write_ct(folder / "in", number))
    with closing(Ledger(chosen.work)) as ledger:
        work = ledger.add(series, "m", origin="x", rule="Chest", due=0)
        ledger.mark_dead(work, "cannot read /data/Geheim^Gisela/1.dcm")
    return work.id


def test_a_condition_is_sent_once_again_when_it_changed_and_when_it_is_over(tmp_path):
    with serving(MailServer()) as server:
        chosen = hospital(tmp_path, mail_on(server))
        watch = AlertWatch(chosen)
        watch.look()  # before there is anything at all
        first = dead(chosen, tmp_path, 1)
        for each in (watch, watch, AlertWatch(chosen)):  # another process too
            each.look()
        ((_, mail),) = server.mails
        assert mail["Subject"] == "[ldct test] dead"
        assert (mail["From"], mail["To"]) == ("ldct@example.org", "pacs@example.org")
        assert mail["Auto-Submitted"] == "auto-generated"
        text = mail.get_payload()
        assert text.splitlines()[0].startswith("dead: 1 series failed for good")
        assert first in text

        second = dead(chosen, tmp_path, 2)
        (chosen.work / "unmatched" / "r-1-r-2").mkdir(parents=True)
        watch.look()
        assert server.mails[1][1]["Subject"] == "[ldct test] dead, unmatched"
        assert "dead: 2 series" in server.mails[1][1].get_payload()

        ledger = Ledger(chosen.work)
        for name in (first, second):
            ledger.restart(ledger.get(name))
        watch.look()
        watch.look()
        assert len(server.mails) == 3
        assert "dead: over" in server.mails[2][1].get_payload()
        shown = "".join(str(mail) for _, mail in server.mails)
        assert not any(secret in shown for secret in SECRETS)


def lines(taken: tuple) -> list[str]:
    return taken[2]["text"].splitlines()


def test_a_night_that_failed_is_news_once_a_day(tmp_path):
    with serving(HookServer()) as server:
        chosen = hospital(tmp_path, {"webhook": {"url": server.url}})
        Ledger(chosen.work)
        ended = [datetime(2026, 11, 28, 1, tzinfo=UTC)]
        watch = AlertWatch(chosen, lambda: [failed_job("nightly", *ended)])
        watch.look()
        ended[0] = datetime(2026, 11, 28, 2, tzinfo=UTC)  # another run of the day
        watch.look()
        assert len(server.taken) == 1
        assert "failed nightly: a run failed" in server.taken[0][2]["text"]
        assert "2026-11-28" in server.taken[0][2]["text"]
        ended[0] = datetime(2026, 11, 29, 1, tzinfo=UTC)
        watch.look()
        ended[0] = None  # type: ignore[call-overload]
        watch.look()
        assert [row[2]["text"].splitlines()[1] for row in server.taken[2:]] == [
            "failed nightly: over"
        ]


def test_changes_are_gathered_and_what_is_not_wanted_is_not_sent(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    with serving(HookServer()) as server:
        more = {"gather_s": 900, "of": ["dead"]}
        chosen = hospital(tmp_path, {"webhook": {"url": server.url}}, **more)
        watch = AlertWatch(chosen)
        (chosen.work / "unmatched" / "r-1").mkdir(parents=True)
        for number in (1, 2, 3):
            dead(chosen, tmp_path, number)
            watch.look()
        assert len(server.taken) == 1
        now[0] += 901
        watch.look()
        counts = [lines(row)[1].split(" failed")[0] for row in server.taken]
        assert counts == ["dead: 1 series", "dead: 3 series"]


def test_what_cannot_be_sent_is_logged_once_counted_and_tried_again(tmp_path, capfd):
    with serving(MailServer()) as server, serving(HookServer()) as hook:
        chosen = hospital(tmp_path, {**mail_on(server), "webhook": {"url": hook.url}})
        dead(chosen, tmp_path, 1)
        server.refuse, registry = "451 not now", CollectorRegistry()
        with alerting(chosen, registry):
            pass  # one look, at the end
        watch = AlertWatch(chosen)
        watch.look()
        watch.look()
        said = capfd.readouterr().err.splitlines()
        assert said[:2] == [
            "no alert by mail: SMTPDataError; it is tried again",
            "alert by webhook: dead",
        ]
        assert said[2:] == said[:1]  # of the second watch: once
        assert b'ldct_alerts_failed_total{channel="mail"} 1.0' in generate_latest(registry)
        assert len(hook.taken) == 1  # not again with each attempt of the other
        server.refuse = ""
        watch.look()
        watch.look()
        assert len(server.mails) == 1


def test_nothing_that_fails_ends_the_work(tmp_path, capfd):
    unused = {**MAIL, "host": "127.0.0.1", "port": free_port(), "security": "none"}
    chosen = hospital(tmp_path, {"mail": {**unused, "login": {"env": "NOT_SET"}}})
    dead(chosen, tmp_path, 1)
    with alerting(chosen, CollectorRegistry()):
        pass
    (chosen.work / "ledger.db").write_bytes(b"no database")
    with alerting(chosen, CollectorRegistry()):
        pass
    said = capfd.readouterr().err
    assert said.splitlines() == [
        "no alert by mail: ConnectionRefusedError; it is tried again",
        "alerts: ConfigError",
    ]
    (chosen.work / "alerts.json").write_text("damaged")
    assert AlertWatch(chosen)._sent._read() == {}


def test_held_work_is_named_by_its_id_and_a_long_list_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_IDS", 1)
    with serving(HookServer()) as server:
        chosen = hospital(tmp_path, {"webhook": {"url": server.url}})
        ledger = Ledger(chosen.work)
        for number in (1, 2):
            series = series_of(write_ct(tmp_path / "in", number))
            work = ledger.add(series, "m", origin="x", rule="r", due=0)
            ledger.advance(work, State.HELD, "kernel B80f")
        AlertWatch(chosen).look()
        _, what, first, rest = lines(server.taken[0])
        assert what.startswith("held: 2 series are unlike the model's training data")
        assert first.startswith("  w-")
        assert rest == "  and 1 more"


@pytest.mark.parametrize(("security", "implicit"), [("starttls", False), ("tls", True)])
def test_mail_goes_by_tls_with_a_login(tmp_path, monkeypatch, security, implicit):
    known = self_signed(tmp_path / "tls")
    monkeypatch.setenv("LDCT_MAIL_USER", "me")
    monkeypatch.setenv("LDCT_MAIL_PASSWORD", "hush")
    with serving(MailServer(known, implicit=implicit)) as server:
        more = {"login": {"env": "MAIL"}, "tls": {"ca": known["certificate"]}}
        chosen = Alerts.model_validate(mail_on(server, security, **more))
        send(chosen, "mail", "subject", "text")
        assert server.mails[0][0] == "tls me:hush"
        strangers = Alerts.model_validate(mail_on(server, security, login={"env": "MAIL"}))
        with pytest.raises(OSError, match="certificate"):
            send(strangers, "mail", "subject", "text")
        assert len(server.mails) == 1


def test_mail_is_not_sent_in_the_clear_where_tls_is_expected(tmp_path):
    with serving(MailServer()) as server:
        chosen = Alerts.model_validate(mail_on(server, "starttls"))
        with pytest.raises(OSError, match="STARTTLS"):
            send(chosen, "mail", "subject", "text")
        assert server.mails == []


def test_a_webhook_is_https_with_a_token_and_follows_no_redirect(tmp_path, monkeypatch):
    known = self_signed(tmp_path)
    monkeypatch.setenv("LDCT_HOOK_TOKEN", "hush")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    with serving(HookServer(known)) as server:
        secret = tmp_path / "url"
        secret.write_text(f"{server.url}\n")
        secret.chmod(0o600)
        hook = {"url_file": str(secret), "tls": {"ca": known["certificate"]}}
        chosen = Alerts.model_validate({"webhook": {**hook, "login": {"env": "HOOK"}}, "site": "s"})
        send(chosen, "webhook", "subject", "text")
        assert server.taken == [("/hook", "Bearer hush", {"text": "subject\ntext", "site": "s"})]
        with pytest.raises(OSError, match="certificate"):
            send(Alerts.model_validate({"webhook": {"url": server.url}}), "webhook", "s", "t")
        server.status = 302
        with pytest.raises(OSError, match="302"):
            send(chosen, "webhook", "subject", "text")
        assert [path for path, *_ in server.taken] == ["/hook", "/hook"]
        secret.chmod(0o644)
        with pytest.raises(ConfigError, match="chmod 600"):
            send(chosen, "webhook", "subject", "text")
        secret.chmod(0o600)
        secret.write_text("http://elsewhere.example/hush")
        with pytest.raises(ConfigError, match="https") as refused:
            send(chosen, "webhook", "subject", "text")
        assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "mail, webhook or both"),
        ({"webhook": {}}, "either url or url_file"),
        ({"webhook": {"url": "http://chat.example.org/x"}}, "expected https"),
        ({"webhook": {"url": "https://u:p@chat.example.org/x"}}, "no user or password"),
        ({"mail": {**MAIL, "host": "mail", "security": "none"}}, "use starttls"),
        ({"mail": {**MAIL, "host": "mail", "to": ["a@b\nBcc: c@d"]}}, "should match pattern"),
        ({"mail": {**MAIL, "host": "mail", "to": []}}, "at least 1"),
        ({"mail": {**MAIL, "host": "mail"}, "of": ["deed"]}, "Input should be 'dead'"),
        ({"mail": {**MAIL, "host": "mail"}, "site": "a\nb"}, "should match pattern"),
    ],
)
def test_what_is_wrong_is_named(wrong, message):
    with pytest.raises(ValidationError, match=message):
        Alerts.model_validate(wrong)


def test_the_alerts_of_the_documentation_are_some():
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    example = text.partition("```yaml\n")[2].partition("```")[0]
    read = Alerts.model_validate(yaml.safe_load(example)["alerts"])
    assert read.mail
    assert read.webhook
    assert read.of == Alerts.model_validate({"mail": {**MAIL, "host": "m"}}).of


def test_the_command_sends_a_test_by_every_channel(tmp_path):
    with serving(HookServer()) as server:
        unused = {**MAIL, "host": "127.0.0.1", "port": free_port(), "security": "none"}
        described = {
            "model": "redcnn@pretrained",
            "work": str(tmp_path / "work"),
            "rules": [{"name": "any"}],
            "send": {"folder": str(tmp_path)},
            "alerts": {"mail": unused, "webhook": {"url": server.url}, "site": "test"},
        }
        path = tmp_path / "hospital.yaml"
        path.write_text(yaml.safe_dump(described))
        sent = CliRunner().invoke(app, ["pacs", "alert", str(path)])
        assert sent.exit_code == 1
        mail, hook = sent.output.splitlines()
        assert mail.startswith("mail: ConnectionRefusedError")
        assert hook == "webhook: sent"
        assert lines(server.taken[0])[0] == "[ldct test] test"
    del described["alerts"]
    path.write_text(yaml.safe_dump(described))
    assert CliRunner().invoke(app, ["pacs", "alert", str(path)]).exit_code == 2
