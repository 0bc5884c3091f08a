"""Readers by name, and what their roles let them do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from pipeline.core.errors import LdctError

#: Names of readers: each is also a file's name.
READER = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}$")


class Role(StrEnum):
    """What somebody may do; every role may look at the cases.

    reader: look at cases, and mark them in a reader study. releaser: accept and reject, which
    lets a result go to the PACS. admin: export the readings of a study, unblinded.
    """

    READER = "reader"
    RELEASER = "releaser"
    ADMIN = "admin"


class NotAllowedError(LdctError):
    """Somebody asks for what their roles do not allow."""


@dataclass(frozen=True)
class Identity:
    """Who asks. reader: the name that the login gave, or None where readers name themselves, on
    their own computer. login: how they were recognised, for the audit log."""

    reader: str | None
    roles: frozenset[Role]
    login: str

    def may(self, role: Role) -> bool:
        """Whether one of the roles is `role`, or allows what it does."""
        return bool(self.roles) if role is Role.READER else role in self.roles

    @property
    def rights(self) -> list[str]:
        """The roles whose rights they have."""
        return [role.value for role in Role if self.may(role)]

    def require(self, role: Role) -> None:
        """Raise NotAllowedError without the role."""
        if not self.may(role):
            have = ", ".join(sorted(self.roles)) or "none"
            raise NotAllowedError(f"this needs the role {role}; you have: {have}")

    def name(self, given: str) -> str:
        """The reader's name in records: the login's, or the one given where there is none.

        Raises NotAllowedError for the name of another reader.
        """
        if self.reader is None:
            return given
        if given not in ("", self.reader):
            raise NotAllowedError(f"you are logged in as {self.reader}, not as {given}")
        return self.reader


#: Who opened the link that `ldct review` printed: alone on the computer, under any name.
OWN_COMPUTER = Identity(None, frozenset(Role), "own computer")
