"""Audit messages (PS3.15 A.5) as lines of syslog (RFC 5424), as IHE's ATNA profile sends them."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, tostring

from pipeline.core.sanitise import printable_line
from pipeline.pacs.settings.atna import Atna

#: (value, coding scheme, meaning)
Code = tuple[str, str, str]
APPLICATION_ACTIVITY: Code = ("110100", "DCM", "Application Activity")
STARTED: Code = ("110120", "DCM", "Application Start")
STOPPED: Code = ("110121", "DCM", "Application Stop")
APPLICATION: Code = ("110150", "DCM", "Application")
LAUNCHER: Code = ("110151", "DCM", "Application Launcher")
AUTHENTICATION: Code = ("110114", "DCM", "User Authentication")
LOGIN: Code = ("110122", "DCM", "Login")
LOGOUT: Code = ("110123", "DCM", "Logout")
TRANSFERRED: Code = ("110104", "DCM", "DICOM Instances Transferred")
ACCESSED: Code = ("110103", "DCM", "DICOM Instances Accessed")
SOURCE: Code = ("110153", "DCM", "Source Role ID")
DESTINATION: Code = ("110152", "DCM", "Destination Role ID")
STUDY_UID: Code = ("110180", "DCM", "Study Instance UID")
PATIENT_NUMBER: Code = ("2", "RFC-3881", "Patient Number")
#: What became of a result: DICOM has no codes for these.
RELEASED: Code = ("released", "99LDCT", "Result released that was held")
ACCEPTED: Code = ("accepted", "99LDCT", "Result accepted by a reader")
REJECTED: Code = ("rejected", "99LDCT", "Result rejected by a reader")
SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE = "0", "4", "8"
#: Facility 10 (security), severity 5 (notice): PS3.15 A.6.
_PRIORITY = 10 * 8 + 5
_MACHINE_NAME, _IP_ADDRESS = "1", "2"


@dataclass(frozen=True)
class Participant:
    """Who took part: a person, or a process by its AE title, address, name or number.

    host: where it runs, a name or an address, "" where that is not known. title: the AE title of a
    process that is named otherwise. name: what people call it.
    """

    user: str
    requestor: bool
    role: Code | None = None
    host: str = ""
    title: str = ""
    name: str = ""


@dataclass(frozen=True)
class StudyImages:
    """Images of one study that something happened to.

    study, patient: as the message names them. images: how many, by SOP class UID. work: the id of
    the piece of work, "" for none.
    """

    study: str
    patient: str
    images: Mapping[str, int]
    work: str = ""


@dataclass(frozen=True)
class AuditEvent:
    """Something that happened.

    action: C, R, U, D or E (PS3.15 A.5.1). about: the images; None for what was done to none.
    kinds: what it was more precisely.
    """

    event: Code
    action: str
    participants: Sequence[Participant]
    about: StudyImages | None = None
    outcome: str = SUCCESS
    kinds: Sequence[Code] = ()


def to_xml(event: AuditEvent, settings: Atna, at: datetime) -> bytes:
    """The message of an event, by the schema of PS3.15 A.5.1; UTF-8. at: when it happened."""
    root = Element("AuditMessage")
    what = SubElement(
        root,
        "EventIdentification",
        EventActionCode=event.action,
        EventDateTime=at.astimezone(UTC).isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=event.outcome,
    )
    _coded(what, "EventID", event.event)
    for kind in event.kinds:
        _coded(what, "EventTypeCode", kind)
    for participant in event.participants:
        _participant(root, participant)
    source = SubElement(root, "AuditSourceIdentification", AuditSourceID=settings.source)
    if settings.site:
        source.set("AuditEnterpriseSiteID", settings.site)
    SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})  # an application server
    if event.about is not None:
        _images(root, event.about)
    xml: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return xml


def to_syslog(xml: bytes, at: datetime) -> bytes:
    """A line of syslog (RFC 5424) with the message, framed by its length (RFC 5425 4.3)."""
    time = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = socket.gethostname()[:255] or "-"
    head = f"<{_PRIORITY}>1 {time} {host} ldct {os.getpid()} DICOM+RFC3881 - "
    line = head.encode("ascii", "replace") + b"\xef\xbb\xbf" + xml
    return str(len(line)).encode() + b" " + line


def _participant(root: Element, participant: Participant) -> None:
    element = SubElement(
        root,
        "ActiveParticipant",
        UserID=printable_line(participant.user) or "unknown",
        UserIsRequestor=str(participant.requestor).lower(),
    )
    if participant.title:  # as A.5.2.2 has it
        element.set("AlternativeUserID", f"AETITLES={printable_line(participant.title)}")
    if participant.name:
        element.set("UserName", printable_line(participant.name))
    if participant.host:
        element.set("NetworkAccessPointID", participant.host)
        element.set("NetworkAccessPointTypeCode", _kind_of(participant.host))
    if participant.role:
        _coded(element, "RoleIDCode", participant.role)


def _kind_of(host: str) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _MACHINE_NAME
    return _IP_ADDRESS


def _images(root: Element, found: StudyImages) -> None:
    study = _object(root, found.study, STUDY_UID, kind="2", role="3", name=found.work)
    about = SubElement(study, "ParticipantObjectDescription")
    for sop_class, number in found.images.items():
        SubElement(about, "SOPClass", UID=sop_class, NumberOfInstances=str(number))
    _object(root, found.patient, PATIENT_NUMBER, kind="1", role="1", name="")


def _object(
    root: Element, identifier: str, type_: Code, *, kind: str, role: str, name: str
) -> Element:
    element = SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=printable_line(identifier) or "unknown",
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )
    _coded(element, "ParticipantObjectIDTypeCode", type_)
    # The schema asks for a name; a patient's is never in it.
    SubElement(element, "ParticipantObjectName").text = name or "not named"
    return element


def _coded(parent: Element, name: str, code: Code) -> None:
    value, scheme, meaning = code
    given = {"csd-code": value, "codeSystemName": scheme, "originalText": meaning}
    SubElement(parent, name, given)
