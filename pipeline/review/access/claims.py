"""What a signed login says: verified, and read as a reader with roles."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from pipeline.core.errors import ConfigError
from pipeline.review.access.roles import NAME_RULE, Identity, NotAllowedError, is_reader
from pipeline.review.access.settings import AccessSettings, SignedHeader

#: Signatures that the holder of a public key cannot make: no `none`, no HMAC.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
#: How far the clocks may be apart.
LEEWAY_S = 60
#: Unknown keys are looked for again at most so often.
ASK_AGAIN_S = 60.0
TIMEOUT_S = 10.0


class LoginError(NotAllowedError):
    """A login that cannot be accepted."""


def identity_of(claims: Mapping[str, Any], access: AccessSettings, login: str) -> Identity:
    """The reader whom verified claims describe.

    Raises LoginError where they hold no usable name, or no group that has a role here.
    """
    name = _claim(claims, access.name_claim)
    if not isinstance(name, str) or not is_reader(name):
        raise LoginError(
            f"the login's claim {access.name_claim} is no name that records can hold "
            f"({NAME_RULE}): choose another claim as name_claim"
        )
    groups = _claim(claims, access.roles_claim)
    if isinstance(groups, str):  # one group, of several words maybe
        groups = [groups]
    found = {str(group) for group in groups} if isinstance(groups, list) else set()
    roles = frozenset(role for role, names in access.roles.items() if found & set(names))
    if not roles:
        raise LoginError(f"{name} has no role here: none of the groups that `roles` names")
    return Identity(name, roles, login)


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by the path to it (`realm_access.roles`)."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


class SignedTokens:
    """Verifies a proxy's JSON Web Tokens (RFC 7519) by its public keys."""

    def __init__(self, settings: SignedHeader) -> None:
        self.settings = settings
        self._keys: KeySet | None = None
        self._asked_s = -ASK_AGAIN_S

    def claims(self, token: str) -> dict[str, Any]:
        """What a token says. Raises LoginError for one that is not whole, signed, of the issuer,
        for this page, and of this time; ConfigError where the keys cannot be read."""
        try:
            decoded = self._decoded(token)
            jwt.JWTClaimsRegistry(
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self.settings.issuer},
                aud={"essential": True, "value": self.settings.audience},
                exp={"essential": True},
            ).validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise LoginError(f"the header's token is refused: {type(error).__name__}") from None
        return dict(decoded.claims)

    def _decoded(self, token: str) -> jwt.Token:
        try:
            return jwt.decode(token, self._known(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            # Of a key that was changed since: asked for again, but not by every request.
            if time.monotonic() - self._asked_s < ASK_AGAIN_S:
                raise
            return jwt.decode(token, self._renewed(), algorithms=ALGORITHMS)

    def _known(self) -> KeySet:
        return self._keys or self._renewed()

    def _renewed(self) -> KeySet:
        """The keys as they are now; those from before stay where they cannot be read."""
        self._asked_s = time.monotonic()
        self._keys = self._read()
        return self._keys

    def _read(self) -> KeySet:
        source = self.settings.keys
        try:
            if "://" in source:
                verify = str(self.settings.ca) if self.settings.ca else True
                with httpx.Client(verify=verify, trust_env=False, timeout=TIMEOUT_S) as client:
                    text = client.get(source).raise_for_status().text
            else:
                text = Path(source).read_text(encoding="utf-8")
            return KeySet.import_key_set(json.loads(text))
        except (httpx.HTTPError, OSError, ValueError, TypeError, KeyError, JoseError) as error:
            raise ConfigError(f"cannot read the keys {source}: {type(error).__name__}") from None
