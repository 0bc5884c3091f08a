"""The review server: who gets in, what it gives, decisions, audit log and policy."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from helpers.dicom import KEY
from helpers.review import (
    COLUMNS,
    CTDI_VOL_MGY,
    ROWS,
    SHIFT_HU,
    SLICES,
    STUDY,
    TOKEN,
    body_hu,
    case_of,
    collected,
    served,
    truncate,
    write_case,
)

from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.review.assets import load_assets
from pipeline.review.decisions import (
    Decision,
    Policy,
    audit_of,
    decide,
    read_policy,
    require_sendable,
    set_policy,
)
from pipeline.review.service import Review
from pipeline.review.static_export import write_disk
from pipeline.review.study.reader_study import CRITERIA
from pipeline.review.worklist import Collection, collect


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_case(tmp_path, 1)
    return tmp_path


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page that stands for the built one: these tests are of the server."""
    folder = tmp_path_factory.mktemp("built")
    for name in ("index.html", "app.js", "app.css", "licences.txt"):
        (folder / name).write_text(f"the {name} <!-- disk -->")
    monkeypatch.setattr("pipeline.review.assets.BUILT", folder)
    return folder


@pytest.fixture
def collection(root: Path) -> Collection:
    return collected(root)


@pytest.fixture
def address(collection: Collection, page: Path) -> Iterator[str]:
    with served(collection) as found:
        yield found


def cookie_of(address: str) -> str:
    return f"ldct-review-{urlsplit(address).port}"


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    """A browser that came in with the token."""
    with httpx.Client(base_url=address, follow_redirects=True) as found:
        assert found.get("/", params={"token": TOKEN}).status_code == 200
        yield found


def test_a_wrong_token_is_refused_and_the_right_one_works_once(address: str) -> None:
    with httpx.Client(base_url=address) as stranger:
        assert stranger.get("/").status_code == 403
        assert stranger.get("/", params={"token": "guessed"}).status_code == 403
    with httpx.Client(base_url=address) as reader:
        entered = reader.get("/", params={"token": TOKEN})
        assert entered.status_code == 303
        assert "HttpOnly" in entered.headers["set-cookie"]
        assert "SameSite=strict" in entered.headers["set-cookie"]
        assert reader.get("/").status_code == 200
    with httpx.Client(base_url=address) as second:
        assert second.get("/", params={"token": TOKEN}).status_code == 403
        assert second.get("/api/worklist", cookies={cookie_of(address): TOKEN}).status_code == 403


def test_two_pages_in_one_browser_know_it_both(collection: Collection, page: Path) -> None:
    """A cookie is of a host, whatever its port: each page has one of its own name."""
    with served(collection) as first, served(collection) as second, httpx.Client() as browser:
        for address in (first, second):
            assert browser.get(address, params={"token": TOKEN}).status_code == 303
        for address in (first, second, first):
            assert browser.get(f"{address}/api/worklist").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/app.js/../../server.py",
        "/api/geometry/..%2f..%2fetc%2fpasswd",
        "/api/planes/../slices/0",
        "/api/planes/x/..%2f..%2fetc/0",
        "/api/reading/..%2faudit",
        "//etc/passwd",
        "/review/audit.jsonl",
    ],
)
def test_paths_lead_nowhere(client: httpx.Client, address: str, path: str) -> None:
    """As it is typed: clients like httpx would tidy the dots away."""
    parts = urlsplit(address)
    cookie = client.cookies[cookie_of(address)]
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Cookie: {cookie_of(address)}={cookie}",
        "Connection: close",
    ]
    request = "\r\n".join([*lines, "", ""])
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status = int(answer.split()[1])
    assert status in (404, 422), answer[:200]
    assert b"root:" not in answer
    assert b'"act"' not in answer


def test_other_hosts_and_other_pages_are_refused(client: httpx.Client) -> None:
    assert client.get("/api/worklist").status_code == 200
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert client.get("/api/worklist", headers=headers).status_code == 403


def test_a_watchdog_is_answered_without_a_cookie_and_learns_nothing_else(
    address: str, root: Path
) -> None:
    asked = httpx.get(f"{address}/health")
    assert (asked.status_code, asked.json()) == (200, {"folder": "ok"})
    assert httpx.get(f"{address}/health", headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(f"{address}/health/../api/worklist").status_code == 403
    root.rename(root.with_name("moved"))
    asked = httpx.get(f"{address}/health")
    assert (asked.status_code, asked.json()) == (503, {"folder": "gone"})


def test_nothing_may_be_loaded_from_outside(client: httpx.Client) -> None:
    for path in ("/", "/api/worklist", "/api/geometry/none"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "http" not in policy
        assert "unsafe" not in policy
        assert "*" not in policy


def test_only_loopback_listens(address: str) -> None:
    assert urlsplit(address).hostname == "127.0.0.1"
    with socket.socket() as probe:
        probe.settimeout(1)
        own = socket.gethostbyname(socket.gethostname())
        if not own.startswith("127."):
            assert probe.connect_ex((own, urlsplit(address).port)) != 0


def test_planes_are_served_in_exact_hu(client: httpx.Client) -> None:
    case = client.get("/api/worklist").json()["cases"][0]
    for role, shift in (("original", 0), ("denoised", SHIFT_HU)):
        sid = case["series"][role]["sid"]
        answer = client.get(f"/api/planes/{sid}/slices/1")
        numbers = np.frombuffer(answer.content, "<i2").reshape(8, ROWS, COLUMNS)
        assert json.loads(answer.headers["x-faults"]) == {}
        assert np.array_equal(numbers[2], body_hu(10) + shift)
    geometry = client.get(f"/api/geometry/{sid}").json()
    assert geometry["instance_numbers"] == list(range(SLICES, 0, -1))
    blinded = client.get("/api/reading/anna").json()["items"][0]["left"]
    assert client.get(f"/api/geometry/{blinded}").json()["instance_numbers"] == []
    assert geometry["planes"]["slices"]["count"] == SLICES
    assert client.get(f"/api/planes/{sid}/slices/99").status_code == 404


def test_the_worklist_identifies_no_patient(client: httpx.Client) -> None:
    shown = client.get("/api/worklist").text
    assert "SECRET" not in shown
    assert "Geheim" not in shown
    assert "1.2.826.0.1.3680043.8.498.77" not in shown


def test_what_denoising_changed_is_measured(client: httpx.Client) -> None:
    cid = client.get("/api/worklist").json()["cases"][0]["case"]
    found = client.get(f"/api/changes/{cid}").json()
    while found["done"] < found["of"]:
        found = client.get(f"/api/changes/{cid}").json()
    row = found["slices"][5]
    assert (row["mean_hu"], row["sd_hu"], row["block_hu"]) == (SHIFT_HU, 0, SHIFT_HU)
    assert any("mean change" in flag for flag in found["flags"])  # 7 HU are above the limit of 2


def test_accepting_and_rejecting_is_recorded_permanently(client: httpx.Client, root: Path) -> None:
    cid = client.get("/api/worklist").json()["cases"][0]["case"]
    bare = client.post(f"/api/decision/{cid}", json={"reader": "anna", "verdict": "reject"})
    assert bare.status_code == 422
    assert "reason" in bare.json()["error"]
    sent = {"reader": "anna", "verdict": "reject", "reason": "smeared vessels"}
    decided = client.post(f"/api/decision/{cid}", json=sent).json()["decision"]
    assert decided["act"] == "reject"
    seen = {"reader": "ben", "verdict": "accept", "seen": decided["time"]}
    assert client.post(f"/api/decision/{cid}", json=seen).status_code == 200
    records = audit_of(root).records()
    acts = [(record["act"], record.get("reader")) for record in records]
    assert acts[-2:] == [("reject", "anna"), ("accept", "ben")]
    assert client.get("/api/worklist").json()["cases"][0]["decision"]["reader"] == "ben"
    assert client.post(f"/api/decision/{cid}", json={**sent, "reader": "../x"}).status_code == 422
    assert client.post(f"/api/decision/{cid}", content="verdict=accept").status_code == 415


def test_marks_of_others_are_unseen_until_all_who_began_have_ended(client: httpx.Client) -> None:
    for number, item in enumerate(client.get("/api/reading/anna").json()["items"], start=1):
        left = dict.fromkeys(CRITERIA, 3)
        score = {"item": item["item"], "left": left, "right": left, "preference": "neither"}
        assert client.post("/api/reading/anna", json={**score, "right": {}}).status_code == 200
        refused = client.get("/api/readings.csv")
        assert refused.status_code == 422
        assert f"anna has read {number - 1} of 2" in refused.json()["error"]
        client.post("/api/reading/anna", json=score)
    assert len(client.get("/api/readings.csv").text.splitlines()) == 1 + 2


def test_a_changed_record_is_found(root: Path) -> None:
    journal = audit_of(root)
    for number in range(4):
        journal.append({"act": "opened", "number": number})
    assert journal.broken() == []
    lines = journal.path.read_text().splitlines(keepends=True)
    journal.path.write_text("".join([lines[0], lines[1].replace(": 1", ": 7"), *lines[2:]]))
    assert journal.broken() == [2, 3]  # not what was signed, and not what the next one follows
    journal.path.write_text("".join([lines[0], *lines[2:]]))
    assert journal.broken()[0] == 2


def test_a_record_cut_short_by_a_kill_stays_and_is_reported(root: Path) -> None:
    journal = audit_of(root)
    journal.append({"act": "opened"})
    with journal.path.open("a") as stream:
        stream.write('{"act": "acce')
    journal.append({"act": "reject"})
    assert [record["act"] for record in journal.records()] == ["opened", "reject"]
    assert journal.broken() == [2]


def test_the_policy_lets_only_accepted_files_through(root: Path) -> None:
    folder = root / "derived-1"
    require_sendable(root, folder)  # without a policy any may go
    set_policy(root, Policy(send="accepted"))
    with pytest.raises(LdctError, match="no reader has accepted"):
        require_sendable(root, folder)
    no = decide(root, "c", folder, Decision(reader="anna", verdict="reject", reason="blurred"))
    with pytest.raises(LdctError, match="rejected by anna: blurred"):
        require_sendable(root, folder)
    decide(root, "c", folder, Decision(reader="anna", verdict="accept", seen=no.time))
    require_sendable(root, folder)
    truncate(sorted(folder.iterdir())[0])
    with pytest.raises(LdctError, match="changed since"):
        require_sendable(root, folder)
    (root / "review" / "policy.json").write_text('{"send": "everything"}')
    with pytest.raises(ConfigError, match="no policy"):
        read_policy(root)


def test_a_derived_series_finds_its_source_elsewhere(tmp_path: Path) -> None:
    original, derived = write_case(tmp_path / "all", 1)
    alone = tmp_path / "alone"
    alone.mkdir()
    derived.rename(alone / derived.name)
    without = next(iter(collect(alone, key=KEY).cases.values()))
    assert "original" not in without.shown
    assert "--source" in without.flags[0]
    together = next(iter(collect(alone, [original], key=KEY).cases.values()))
    assert list(together.shown) == ["original", "denoised"]


def test_drift_is_the_first_flag_and_likeness_is_none(root: Path) -> None:
    told = "UNLIKE THE MODEL'S TRAINING: noise 9 HU; training saw 31 to 87 HU."
    (case,) = collected(root).cases.values()
    assert case.folder is not None
    row = {
        "folder": str(case.folder.relative_to(root)),
        "clipped_pixels": 2,
        "drift": ["noise"],
        "drift_line": told,
    }
    for changes, first in (({}, told), ({"drift": [], "drift_line": "Like."}, "2 pixels clipped")):
        write_json(root / "report.json", {"exported": [{**row, **changes}]})
        (case,) = collected(root).cases.values()
        assert case.flags[0].startswith(first)


def test_the_report_leads_to_the_review_page(client: httpx.Client, root: Path) -> None:
    assert client.get("/report.html").status_code == 404
    source = Path("pipeline/report/report.html")
    button = (Path(__file__).parents[2] / source).read_text().split("<!-- review -->")[1]
    (root / "report.html").write_text(f"<p>figures</p><!-- review -->{button}")
    answer = client.get("/report.html")
    assert '<a class="review" href="/">Open the review page</a>' in answer.text
    assert "ldct review ." not in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]


def test_an_empty_folder_and_an_unbuilt_page_are_named(tmp_path: Path) -> None:
    with pytest.raises(NothingUsableError, match="no series to review"):
        collect(tmp_path, key=KEY)
    with pytest.raises(ConfigError, match="make page"):
        load_assets(tmp_path)


def test_a_disk_holds_page_and_data_and_asks_for_nothing(
    collection: Collection, page: Path, tmp_path: Path
) -> None:
    out = tmp_path / "disk"
    write_disk(collection, out)
    html = (out / "index.html").read_text()
    assert "default-src 'none'" in html
    cid = case_of(collection, collection.root / "derived-1")
    scripts = list((out / "data" / f"{cid}.original").glob("*.js"))
    assert len(scripts) == SLICES // 8 + ROWS // 8 + COLUMNS // 8
    worklist = json.dumps(Review(collection).worklist())
    assert STUDY in worklist
    assert str(CTDI_VOL_MGY) in worklist
    held = "".join(path.read_text() for path in out.rglob("*") if path.is_file())
    assert STUDY not in held  # free text
    assert str(CTDI_VOL_MGY) in held
    assert "SECRET" not in held
    assert "http:" not in held
    assert "https:" not in held
    (out / "more").write_text("mine")
    with pytest.raises(LdctError, match="something else"):
        write_disk(collection, out)
