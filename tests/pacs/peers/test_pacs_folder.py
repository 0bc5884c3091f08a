"""A folder of studies in place of a PACS: each series once, nothing in it changed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pydicom
import pytest
from helpers.dicom import KEY
from helpers.pacs import derive, settings, write_ct
from helpers.pacs_bench import MODEL, Clock

from pipeline.core.errors import ConfigError
from pipeline.pacs.incoming.query import PullCounts, add_to_ledger, find_candidates
from pipeline.pacs.peers import study_folder
from pipeline.pacs.peers.folder_index import FolderIndex
from pipeline.pacs.peers.peer import Refused, Unreachable
from pipeline.pacs.peers.study_folder import StudyFolderDestination, StudyFolderSource
from pipeline.pacs.settings.hospital import load_pacs
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger

TODAY = date(2026, 11, 28)
SETTLE_S = 60.0


class Site:
    """A folder of studies, one for results, and a worker on a clock that tests move."""

    def __init__(self, root: Path, **more) -> None:
        self.studies, self.results = root / "studies", root / "results"
        self.studies.mkdir(exist_ok=True)
        self.results.mkdir(exist_ok=True)
        folders = {"source": {"folder": str(self.studies)}, "send": {"folder": str(self.results)}}
        self.settings = settings(root / "work", settle_s=SETTLE_S, **folders, **more)
        self.clock = Clock()
        self.ledger = Ledger(self.settings.work, now=self.clock)
        self.worker = Worker(
            self.settings, self.ledger, derive, {"": self.destination()}, self.source()
        )

    def destination(self) -> StudyFolderDestination:
        return StudyFolderDestination(self.results, KEY)

    def source(self) -> StudyFolderSource:
        index = FolderIndex(self.studies, self.settings.work, now=self.clock)
        return StudyFolderSource(index, settle_s=SETTLE_S)

    def pull(self) -> PullCounts:
        rules = list(self.settings.rules)
        candidates = find_candidates(self.source(), rules, today=TODAY)
        return add_to_ledger(candidates, self.ledger, self.settings, model=MODEL)

    def work(self) -> None:
        """All that is due, and what is due soon: as a night's run does."""
        self.worker.run_due()
        while (due := self.ledger.next_due(failed=False)) is not None:
            self.clock.at = due
            self.worker.run_due()

    def sent(self) -> list[str]:
        """The images of all results."""
        files = self.results.glob("[!.]*/[!.]*/[!.]*.dcm")
        return sorted(str(pydicom.dcmread(path).SOPInstanceUID) for path in files)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def snapshot(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = (path for path in folder.rglob("[!.]*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_each_series_is_done_once_and_nothing_is_changed(site):
    write_ct(site.studies / "a" / "deep", 1, count=3)
    write_ct(site.studies, 2, count=2)
    (site.studies / "letter.txt").write_text("no DICOM")
    os.mkfifo(site.studies / "pipe")
    before = snapshot(site.studies)
    assert site.pull() == PullCounts(asked=2, matched=2, new=2)
    site.work()
    assert site.ledger.counts()["sent"] == 2
    assert {work.origin for work in site.ledger.all()} == {"folder"}
    assert len(site.sent()) == 5
    assert snapshot(site.studies) == before
    assert site.pull() == PullCounts(asked=2, matched=2, new=0)
    assert site.worker.run_due() == 0


def test_a_series_is_its_images_wherever_they_lie(site):
    paths = write_ct(site.studies / "in", 1)
    site.pull()
    site.work()
    shutil.copytree(site.studies / "in", site.studies / "copy")
    shutil.move(site.studies / "in", site.studies / "archive")
    for number, path in enumerate(sorted((site.studies / "archive").iterdir())):
        path.rename(path.with_name(f"IM{number}"))
    assert site.pull() == PullCounts(asked=1, matched=1, new=0)
    assert len(site.sent()) == len(paths)


def test_a_series_that_was_moved_before_it_was_done_is_found(site):
    write_ct(site.studies / "in", 1)
    site.pull()
    shutil.move(site.studies / "in", site.studies / "archive")
    site.work()
    assert site.ledger.counts()["sent"] == 1


def test_a_series_that_grows_is_done_when_it_is_whole(site, tmp_path):
    paths = write_ct(tmp_path / "later", 1, count=5)
    folder = site.studies / "in"
    folder.mkdir()
    for path in paths[:2]:
        shutil.copy2(path, folder)  # with its own time of change, as a copying tool does
    site.pull()
    site.clock.at += SETTLE_S  # due, and two more come
    for path in paths[2:4]:
        shutil.copy2(path, folder)
    (folder / "half.dcm").write_bytes(paths[4].read_bytes()[:2000])  # still being written
    waiting = site.worker.step()
    assert (waiting.state, waiting.failures) == (State.FOUND, 0)
    assert "still being written" in waiting.note
    site.clock.at += SETTLE_S / 2
    (folder / "half.dcm").write_bytes(paths[4].read_bytes())
    site.work()
    states = {work.instances: work.state for work in site.ledger.all()}
    assert states == {2: State.SUPERSEDED, 5: State.SENT}
    assert len(site.sent()) == 5


def test_what_grew_after_it_was_sent_is_done_again_and_only_the_new_is_added(site, tmp_path):
    paths = write_ct(tmp_path / "later", 1, count=4)
    for path in paths[:3]:
        shutil.copy(path, site.studies)
    site.pull()
    site.work()
    first = snapshot(site.results)
    shutil.copy(paths[3], site.studies)
    assert site.pull().new == 1
    site.work()
    assert len(site.sent()) == 4
    assert first.items() <= snapshot(site.results).items()


def test_two_files_of_one_image_that_differ_are_told(site):
    (path, *_) = write_ct(site.studies / "in", 1)
    changed = pydicom.dcmread(path)
    changed.PixelData = bytes(len(changed.PixelData))
    changed.save_as(site.studies / "other.dcm")
    site.pull()
    site.work()
    (dead,) = site.ledger.all(State.DEAD)
    assert "2 files of the source are the same image (SOPInstanceUID) and differ" in dead.note
    assert site.sent() == []


def test_a_drive_that_is_not_mounted_loses_nothing(site, tmp_path):
    write_ct(site.studies / "in", 1)
    site.pull()
    os.rename(site.studies, tmp_path / "away")
    with pytest.raises(Unreachable, match="is its drive mounted"):
        site.pull()
    site.clock.at += SETTLE_S
    failed = site.worker.step()
    assert (failed.state, failed.failures) == (State.FOUND, 1)
    site.studies.mkdir()  # the place where it is mounted, empty
    site.clock.at = failed.due
    assert "none of its images" in site.worker.step().note
    site.studies.rmdir()
    os.rename(tmp_path / "away", site.studies)
    site.results.rmdir()
    site.clock.at += 1e6
    site.pull()  # sees all files anew, and so waits
    site.worker.run_due()
    site.clock.at += 1e6
    site.worker.run_due()
    (work,) = site.ledger.all()
    assert (work.state, work.failures) == (State.DERIVED, 1)
    assert "the folder for results is not there" in work.note
    assert not site.results.exists()
    site.results.mkdir()
    site.clock.at = work.due
    site.work()
    assert site.ledger.get(work.id).state is State.SENT


def test_damaged_files_are_counted(site):
    paths = write_ct(site.studies / "in", 1, count=3)
    content = paths[0].read_bytes()
    (site.studies / "cut.dcm").write_bytes(content[:300])
    source = site.source()
    find_candidates(source, list(site.settings.rules), today=TODAY)
    assert source.unreadable() == 1


def test_a_header_is_read_once(site, monkeypatch):
    write_ct(site.studies / "in", 1)
    site.pull()
    monkeypatch.setattr(
        "pipeline.pacs.peers.folder_index.read_dataset", lambda *_, **__: pytest.fail("read again")
    )
    assert site.pull().asked == 1


def test_a_file_that_changes_while_it_is_copied_is_copied_again(site, monkeypatch):
    paths = write_ct(site.studies / "in", 1)
    site.pull()
    site.clock.at += SETTLE_S
    copy = shutil.copyfile

    def slow(source, place):
        copy(source, place)
        os.utime(source, (1, 1))

    monkeypatch.setattr(study_folder.shutil, "copyfile", slow)
    assert "changed while it was copied" in site.worker.step().note
    monkeypatch.undo()
    site.clock.at += 3600
    site.work()
    assert len(site.sent()) == len(paths)


def test_a_result_is_there_whole_or_not_at_all(site, monkeypatch):
    write_ct(site.studies / "in", 1)
    site.pull()
    copy, copied = shutil.copyfile, []

    def cut(source, place):
        copied.append(place)
        if len(copied) == 2:
            raise KeyboardInterrupt
        copy(source, place)

    site.clock.at += SETTLE_S
    site.worker.step(), site.worker.step()
    with monkeypatch.context() as patch:
        patch.setattr(study_folder.shutil, "copyfile", cut)
        with pytest.raises(KeyboardInterrupt):
            site.worker.step()
    assert site.sent() == []
    site.work()
    assert len(site.sent()) == 3
    assert not [path for path in site.results.rglob("*") if "partial" in path.name]
    assert "Geheim" not in str(list(site.results.rglob("*")))


@pytest.mark.parametrize(
    "changes",
    [
        {"work": "studies/work"},
        {"send": {"folder": "studies/derived"}},
        {"work": ".", "source": {"folder": "studies"}},
    ],
)
def test_folders_must_not_lie_in_each_other(tmp_path, changes, monkeypatch):
    monkeypatch.chdir(tmp_path)
    described = {
        "model": "m",
        "work": "work",
        "rules": [{"name": "all"}],
        "source": {"folder": "studies"},
        "send": {"folder": "results"},
    }
    path = tmp_path / "hospital.yaml"
    path.write_text(str(described))
    assert load_pacs(path).send.folder == Path("results")
    path.write_text(str({**described, **changes}))
    with pytest.raises(ConfigError, match=r"source.folder must not lie in each other"):
        load_pacs(path)


def test_an_image_in_the_way_is_not_overwritten(site):
    write_ct(site.studies / "in", 1)
    site.pull()
    site.clock.at += SETTLE_S
    site.worker.step()
    work = site.worker.step()
    (folder,) = [p for p in WorkFolder(site.settings.work).result(work.id).iterdir() if p.is_dir()]
    paths = sorted(folder.glob("*.dcm"))
    site.destination().send(paths[:1])
    (there,) = site.results.rglob("*.dcm")
    other = pydicom.dcmread(there)
    other.SeriesInstanceUID = "1.2.3"
    other.save_as(there)
    with pytest.raises(Refused, match="another image lies at"):
        site.destination().send(paths)


SERIES = int(os.environ.get("LDCT_FOLDER_SERIES", "40"))
_LOOP = """
import sys
from pathlib import Path
from test_pacs_folder import Site
site = Site(Path(sys.argv[1]))
import time
site.clock.__class__.__call__ = lambda self: time.time() + 3600 * float(sys.argv[2])
site.pull()
site.worker.run_due()
"""


def images_below(folder: Path) -> int:
    """Of a tree that another process changes: rglob raises where a folder goes while it looks."""
    return sum(name.endswith(".dcm") for _, _, names in os.walk(folder) for name in names)


def test_many_series_and_workers_that_are_killed(tmp_path):
    """Each start is an hour later than the one before, so that all is settled."""
    site = Site(tmp_path)
    for number in range(1, SERIES + 1):
        write_ct(site.studies / f"d{number % 7}", number, count=2)
    before = snapshot(site.studies)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    kills = 0
    for start in range(40):
        command = [sys.executable, "-c", _LOOP, str(tmp_path), str(start)]
        process = subprocess.Popen(command, env=environment)
        wanted = len(site.sent()) + 2 * SERIES // 3
        while process.poll() is None and images_below(site.results) < wanted:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        if site.ledger.counts()["sent"] == SERIES:
            break
    assert kills >= 2
    assert site.ledger.counts()["sent"] == SERIES, "none lost"
    assert len(site.sent()) == len(set(site.sent())) == 2 * SERIES, "none doubled"
    assert snapshot(site.studies) == before
