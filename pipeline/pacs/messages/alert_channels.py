"""Mail by SMTP and webhooks by HTTPS: how an alert leaves this computer."""

from __future__ import annotations

import base64
import json
import smtplib
import ssl
import urllib.request
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from pipeline.config.connection import Login
from pipeline.config.credentials import client_context, credentials, read_private
from pipeline.core.errors import ConfigError
from pipeline.pacs.settings.alerts import Alerts, Mail, Webhook, require_private_url

#: More of an answer is not read.
_MAX_ANSWER_BYTES = 64 * 1024


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: an alert goes where the configuration says, or nowhere."""

    def redirect_request(self, *_: object) -> None:
        return None


def channels(alerts: Alerts) -> list[str]:
    """The names of the configured channels, for `send`."""
    return [name for name in ("mail", "webhook") if getattr(alerts, name)]


def send(alerts: Alerts, channel: str, subject: str, text: str) -> None:
    """Send a message by a channel. It is to identify no patient.

    Raises OSError (smtplib's and urllib's are), ConfigError for a login that cannot be read, and
    UnicodeError for an address that is none.
    """
    if channel == "mail":
        assert alerts.mail is not None
        _send_mail(alerts.mail, subject, text)
    else:
        assert alerts.webhook is not None
        _post(alerts.webhook, {"text": f"{subject}\n{text}", "site": alerts.site})


def _send_mail(mail: Mail, subject: str, text: str) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, mail.sender, ", ".join(mail.to)
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain="ldct.invalid")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answer
    message.set_content(text)
    with _connected(mail) as server:
        if mail.login:
            known = credentials(mail.login)
            if not known.user:
                raise ConfigError("alerts.mail.login: a mail server asks for user and password")
            server.login(known.user, known.password)
        server.send_message(message)


def _connected(mail: Mail) -> smtplib.SMTP:
    where = (mail.host, mail.port)
    if mail.security == "tls":
        secured: smtplib.SMTP = smtplib.SMTP_SSL(
            *where, timeout=mail.timeout_s, context=client_context(mail.tls)
        )
        return secured
    server = smtplib.SMTP(*where, timeout=mail.timeout_s)
    try:
        if mail.security == "starttls":  # SMTPNotSupportedError where it is not offered
            server.starttls(context=client_context(mail.tls))
    except BaseException:
        server.close()
        raise
    return server


def _post(hook: Webhook, body: dict[str, str]) -> None:
    url = hook.url or _url_of(hook)
    headers = {"Content-Type": "application/json", **_authorization(hook.login)}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    handlers: list[urllib.request.BaseHandler] = [
        # Neither a proxy of the environment nor a redirect decides where it goes.
        urllib.request.ProxyHandler({}),
        _NoRedirect(),
        urllib.request.HTTPSHandler(context=_context(url, hook)),
    ]
    with urllib.request.build_opener(*handlers).open(request, timeout=hook.timeout_s) as answer:
        answer.read(_MAX_ANSWER_BYTES)


def _context(url: str, hook: Webhook) -> ssl.SSLContext | None:
    return client_context(hook.tls) if url.startswith("https") else None


def _url_of(hook: Webhook) -> str:
    path = hook.url_file or Path()
    url = read_private(path, "the URL").strip()
    try:
        require_private_url(url)
    except ValueError as error:
        raise ConfigError(f"alerts.webhook.url_file {path}: {error}") from None
    return url


def _authorization(login: Login | None) -> dict[str, str]:
    if login is None:
        return {}
    known = credentials(login)
    if known.token:
        return {"Authorization": f"Bearer {known.token}"}
    pair = base64.b64encode(f"{known.user}:{known.password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}
