"""Readers by name, and what their roles let them do."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator

from pipeline.core.errors import LdctError

#: What a reader's name may be, for messages. Each is also a file's name.
NAME_RULE = "1 to 64 letters and digits of any script, . _ @ or -, and begins with one of the first"
MOST_LETTERS, MOST_BYTES = 64, 200


def is_reader(name: str) -> bool:
    """Whether records can hold it as a reader's name: see NAME_RULE. In Unicode's form C, since the
    same name in another form would be another reader's."""
    kinds = [unicodedata.category(letter)[0] for letter in name]
    return (
        0 < len(name) <= MOST_LETTERS
        and all(kind in "LMN" or letter in "_.@-" for kind, letter in zip(kinds, name, strict=True))
        and (kinds[0] in "LN" or name[0] == "_")
        and unicodedata.is_normalized("NFC", name)
        and len(name.encode()) <= MOST_BYTES
    )


def _required(name: str) -> str:
    if not is_reader(name):
        raise ValueError(f"a reader's name is {NAME_RULE}")
    return name


ReaderName = Annotated[str, AfterValidator(_required)]


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
