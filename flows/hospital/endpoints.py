"""The source and the destinations of a hospital's YAML, as what talks to them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.core.pseudonyms import installation_key
from pipeline.pacs.peers.dicomweb import DicomwebPeer
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.peers.dimse_source import DimseSourcePeer
from pipeline.pacs.peers.folder_index import FolderIndex
from pipeline.pacs.peers.peer import Peer
from pipeline.pacs.peers.study_folder import StudyFolderDestination, StudyFolderSource
from pipeline.pacs.settings.endpoints import Destination, DimseSource, StudyFolder
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.work.private import private_folder


def open_source(
    settings: Pacs, *, dry_run: bool = False
) -> DicomwebPeer | DimseSourcePeer | StudyFolderSource | None:
    """The configured source, None without one. dry_run: it is to leave no file behind."""
    source = settings.source
    if isinstance(source, StudyFolder):
        if not dry_run:
            private_folder(settings.work)
        index = FolderIndex(source.folder.absolute(), None if dry_run else settings.work)
        return StudyFolderSource(index, settle_s=settings.settle_s)
    if isinstance(source, DimseSource):
        # A dry run leaves no work folder behind.
        scratch = Path(tempfile.gettempdir()) if dry_run else settings.work / "retrieving"
        return DimseSourcePeer(source, scratch, max_image_mib=settings.receive.max_image_mib)
    return DicomwebPeer(source) if source else None


def peers(settings: Pacs) -> dict[str, Peer]:
    """The client of each configured destination, by its name."""
    return {each.name or "": _peer(each) for each in settings.destinations}


def _peer(destination: Destination) -> Peer:
    if destination.dicomweb:
        return DicomwebPeer(destination.dicomweb)
    if destination.folder:
        return StudyFolderDestination(destination.folder, installation_key())
    assert destination.dimse is not None
    return DimsePeer(destination.dimse)
