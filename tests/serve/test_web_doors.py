"""The doors that the web page must keep shut."""

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("gradio", reason="the web page's packages are not here: pip install 'naturelm[web]'")

from web_serving import OPTIONS, OWL, RECORDINGS, Controls, file_data, running

from naturelm import NatureLM
from naturelm.serve.faults import RequestFault
from naturelm.serve.options import MIB
from naturelm.serve.web.gate import folder_has_room
from naturelm.serve.web.uploads import plain_name, received, split_labels


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """A server that notes who asks it for what."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(OWL)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", asked
        listening.shutdown()


def outside(tmp_path: Path) -> Path:
    file = tmp_path / "secret.wav"
    file.write_bytes(OWL)
    return file


def test_no_other_file_of_the_server_is_read(page: Controls, tmp_path: Path) -> None:
    own = page.upload("owl.flac", OWL)
    link = Path(own["path"]).parent / "link.flac"
    link.symlink_to(outside(tmp_path))
    kept = Path(own["path"]).parents[1]
    before = set(kept.rglob("*"))
    ways = [
        str(outside(tmp_path)),
        f"{Path(own['path']).parent}/../../../../../..{outside(tmp_path)}",
        str(link),
        "/etc/passwd",
        "owl.flac",
        "",
        "\0",
        f"file://{own['path']}",
        str(Path(own["path"]).parent),
    ]
    for way in ways:
        for element, values in {
            "ask-go": [file_data(way, "x.wav"), "What?"],
            "scan-go": [file_data(way, "x.wav"), "Dog", [], "", 5, 0, 0, False],
            "batch-go": [[own, file_data(way, "x.wav")], "What?", "Dog, Cat", False],
        }.items():
            refused = page.join(element, values)
            # A folder of the page's own passes the gate, and is no recording.
            if refused.status_code == 200:
                assert way == str(Path(own["path"]).parent)
                assert 'class="said"' not in str(list(page.results()))
            else:
                assert refused.status_code == 400 and "upload it again" in refused.text
    assert set(kept.rglob("*")) == before  # and nothing was copied to where it could be fetched
    link.unlink()
    assert page.http.get(f"/gradio_api/file={own['path']}").content == OWL
    for way in [*ways, f"{own['path']}/../../../secret", str(RECORDINGS / "owl.flac"), "/proc/self/environ"]:
        assert page.http.get(f"/gradio_api/file={quote(way)}").status_code in (400, 403, 404), way


def test_no_address_is_fetched(page: Controls, canary: tuple[str, list[str]]) -> None:
    url, asked = canary
    own = page.upload("owl.flac", OWL)
    for payload in (
        {"path": f"{url}/a.wav", "meta": {"_type": "gradio.FileData"}},
        {
            "path": f"{url}/b.wav",
            "url": f"{url}/b.wav",
            "orig_name": "b.wav",
            "meta": {"_type": "gradio.FileData"},
        },
        {"url": f"{url}/c.wav", "meta": {"_type": "gradio.FileData"}},
        f"{url}/d.wav",
    ):
        for element, values in {
            "ask-go": [payload, "What?"],
            "batch-go": [[payload], "What?", "", False],
        }.items():
            joined = page.join(element, values)
            if joined.status_code == 200:  # it names no path at all
                assert isinstance(payload, str) or "path" not in payload
                assert 'class="said"' not in str(list(page.results()))
    # An address beside a file that is here is not looked at.
    assert 'class="said"' in page.use("ask-go", {**own, "url": f"{url}/e.wav"}, "What?")[0]
    for way in (
        f"/gradio_api/file={url}/f.wav",
        f"/gradio_api/proxy={url}/g.wav",
        f"/gradio_api/file/{url}/h.wav",
    ):
        assert page.http.get(way).status_code == 404
    assert asked == []


def test_gradios_other_doors_are_shut(page: Controls) -> None:
    for way in (
        "run/predict", "api/predict", "call/ask", "call/v2/ask", "vibe-edit", "vibe-code", "component_server",
        "process_recording", "stream/x", "queue/join/../../run/predict", "mcp", "run-history/connect",
    ):  # fmt: skip
        assert page.http.post(f"/gradio_api/{way}", json={"data": []}).status_code in (404, 405), way
    for way in (
        "/gradio_api/openapi.json", "/gradio_api/token", "/monitoring", "/monitoring/summary", "/gradio_api/dev/reload",
        "/gradio_api/deep_link", "/login", "/gradio_api/runs", "/gradio_api/profiling/traces", "/gradio_api/queue/status",
        "/assets/../../../routes.py", "/static/..%2f..%2f..%2froutes.py", "/../../etc/passwd",
    ):  # fmt: skip
        assert page.http.get(way).status_code in (400, 403, 404, 405), way
    assert page.http.put("/gradio_api/upload").status_code == 404


def test_uploads_and_calls_are_bounded(page: Controls, tmp_path: Path) -> None:
    big = page.http.post("/gradio_api/upload", files={"files": ("big.wav", bytes(4 * MIB + 1))})
    assert big.status_code == 413
    call = page.http.post(
        "/gradio_api/queue/join",
        content=b'{"data": ["' + b"x" * MIB + b'"]}',
        headers={"content-type": "application/json"},
    )
    assert call.status_code == 413
    unstated = page.http.post(
        "/gradio_api/queue/join", content=iter([b"{}"]), headers={"content-type": "application/json"}
    )
    assert unstated.status_code == 413
    for number in range(3):
        (tmp_path / str(number)).write_bytes(bytes(1000))
    assert folder_has_room(tmp_path, 3001) and not folder_has_room(tmp_path, 3000)


def test_uploads_are_checked_again_where_they_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "a.wav").write_bytes(OWL)
    (folder / "link.wav").symlink_to(outside(tmp_path))
    assert received(file_data(str(folder / "a.wav"), "../b.wav"), folder).name == "b.wav"
    for way in (
        str(folder / "link.wav"),
        f"{folder}/../secret.wav",
        str(folder),
        "https://example.org/a.wav",
        "\0",
    ):
        with pytest.raises(RequestFault):
            received(file_data(way, "x.wav"), folder)


def test_what_a_call_may_hold(page: Controls) -> None:
    for body in (b"", b"{", b"[]", b'{"data": 3}', b'{"fn_index": 999, "data": [], "session_hash": "x"}'):
        response = page.http.post(
            "/gradio_api/queue/join", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code < 500 or "Traceback" not in response.text
        assert "site-packages" not in response.text


def test_a_server_with_open_pages_stops_soon_and_keeps_nothing(model_folder: Path) -> None:
    model = NatureLM.from_pretrained(model_folder, device="cpu")
    with running(model, OPTIONS) as own:
        page = Controls(own.url, session="open")
        kept = Path(page.upload("owl.flac", OWL)["path"])
        assert kept.is_file()
        with page.http.stream("GET", "/gradio_api/heartbeat/open") as heartbeat:
            beats = heartbeat.iter_lines()
            assert "ALIVE" in next(beats)
            began = time.monotonic()
            own.app.state.close_web()
            list(beats)  # ends
            assert time.monotonic() - began < 5
        page.http.close()
    assert not kept.exists()


@given(st.text())
def test_names_are_plain(given_name: str) -> None:
    name = plain_name(given_name)
    assert name and "/" not in name and "\0" not in name and not name.startswith(".")
    assert len(name.encode()) <= 200 and name.isprintable()
    assert plain_name(f"C:\\sounds\\{name}") == plain_name(f"../{name}") == name


@given(st.lists(st.text(st.characters(blacklist_characters=",\n", blacklist_categories=("Cs",)))))
def test_labels_by_line_or_comma(labels: list[str]) -> None:
    expected = tuple(label.strip() for label in labels if label.strip())
    assert split_labels("\n".join(labels)) == split_labels(", ".join(labels)) == expected


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_whatever_a_browser_sends_for_a_file(
    tmp_path_factory: pytest.TempPathFactory, payload: object
) -> None:
    with pytest.raises(RequestFault):
        received(payload, Path("/nonexistent/folder"))
