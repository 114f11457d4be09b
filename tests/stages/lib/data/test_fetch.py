import contextlib
import dataclasses
import errno
import gzip
import hashlib
import http.server
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import pooch  # type: ignore[import-untyped] # it has no types
import pytest

from stages.lib.core.errors import UserError
from stages.lib.data import fetch
from tests.conftest import ROOT, Answer, Server, execute

CONTENT = gzip.compress(bytes(range(256)) * 40, mtime=0)
FLIPPED = bytes([*CONTENT[:20], CONTENT[20] ^ 1, *CONTENT[21:]])
NAME = "train images.gz"  # the space is none in an address
ASKED = "/tiny/train%20images.gz"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def remote(*urls: str) -> fetch.RemoteFile:
    return fetch.RemoteFile("tiny", NAME, digest(CONTENT), urls)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; none is made."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DATASET_CACHE", str(folder))
    monkeypatch.delenv("DATASET_MIRROR", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder


def left(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file()]


def refusal(file: fetch.RemoteFile) -> str:
    with pytest.raises(UserError) as caught:
        fetch.fetch(file)
    message = str(caught.value)
    assert len(message.splitlines()) == 2
    return message


def recovers(server: Server, cache: Path) -> None:
    """Nothing is left of a failure, and the next good run succeeds."""
    assert left(cache) == []
    server.answers[ASKED] = [Answer(CONTENT)]
    path = fetch.fetch(remote(f"{server.url}/tiny/"))
    assert path.read_bytes() == CONTENT
    assert left(cache) == [NAME]


def test_a_published_file_is_fetched_once(server: Server, cache: Path) -> None:
    server.answers[ASKED] = [Answer(CONTENT)]
    for url in (f"{server.url}/tiny/", f"{server.url}/tiny"):
        path = fetch.fetch(remote(url))
        assert path == cache / "tiny" / NAME
        assert path.read_bytes() == CONTENT
    assert server.requests == [ASKED]
    assert left(cache) == [NAME]


def test_a_mirror_comes_before_the_published_addresses(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/mirror" + ASKED] = [Answer(CONTENT)]
    monkeypatch.setenv("DATASET_MIRROR", f"{server.url}/mirror/")
    fetch.fetch(remote(f"{server.url}/tiny"))
    assert server.requests == ["/mirror" + ASKED]


def test_a_mirror_without_the_file_leaves_the_published_addresses(
    server: Server, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    server.answers[ASKED] = [Answer(CONTENT)]
    monkeypatch.setenv("DATASET_MIRROR", f"{server.url}/mirror")
    fetch.fetch(remote(f"{server.url}/other", f"{server.url}/tiny"))
    assert server.requests == ["/mirror" + ASKED, "/other/train%20images.gz", ASKED]
    assert pauses == []


@pytest.fixture
def mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in a mirror folder."""
    path = tmp_path / "mirror/tiny" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    monkeypatch.setenv("DATASET_MIRROR", str(tmp_path / "mirror"))
    return path


def test_a_mirror_folder_is_copied_from_without_a_network(mirrored: Path, cache: Path) -> None:
    path = fetch.fetch(remote())
    assert path == cache / "tiny" / NAME
    assert path.read_bytes() == CONTENT
    mirrored.unlink()
    assert fetch.fetch(remote()) == path  # a re-run needs no mirror


def test_a_mirror_folder_may_lie_in_the_home_folder(
    mirrored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(mirrored.parents[2]))
    monkeypatch.setenv("USERPROFILE", str(mirrored.parents[2]))
    monkeypatch.setenv("DATASET_MIRROR", "~/mirror")
    monkeypatch.setenv("DATASET_CACHE", "~/cache here")
    assert fetch.fetch(remote()) == mirrored.parents[2] / "cache here/tiny" / NAME


def test_a_mirror_folder_without_the_file_says_so(
    mirrored: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    mirrored.unlink()
    server.answers[ASKED] = [Answer(CONTENT)]
    fetch.fetch(remote(f"{server.url}/tiny"))
    first = capsys.readouterr().err.splitlines()[0]
    assert first == (
        f"DATASET_MIRROR has no {mirrored.as_posix()}; trying the published addresses."
    )


@pytest.mark.parametrize("content", [FLIPPED, CONTENT[:-1], b""], ids=["flipped", "short", "empty"])
def test_a_mirror_folder_with_another_content_is_refused(
    mirrored: Path, cache: Path, server: Server, content: bytes
) -> None:
    mirrored.write_bytes(content)
    assert refusal(remote(f"{server.url}/tiny")) == (
        f"{mirrored.as_posix()}: expected SHA-256 {digest(CONTENT)}, found {digest(content)} "
        f"in {len(content):,} bytes.\n"
        "Replace the file by the published one, or unset DATASET_MIRROR to fetch that."
    )
    assert server.requests == []
    assert left(cache) == []
    mirrored.write_bytes(CONTENT)
    assert fetch.fetch(remote()).read_bytes() == CONTENT


PAGE = b"<!DOCTYPE html><html>Log in to this network</html>"
LATER = [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("answer", "why", "waited"),
    [
        pytest.param(Answer(FLIPPED), f"found {digest(FLIPPED)}", [], id="flipped byte"),
        pytest.param(Answer(CONTENT[:-1]), f"found {digest(CONTENT[:-1])}", [], id="truncated"),
        pytest.param(Answer(b""), f"found {digest(b'')}", [], id="empty"),
        pytest.param(Answer(b"", 404), "HTTP status 404", [], id="404"),
        pytest.param(Answer(PAGE, 403), "HTTP status 403", [], id="403"),
        pytest.param(Answer(PAGE), "a web page instead of data", [], id="HTML page"),
        pytest.param(Answer(b"\n <?xml?>"), "a web page instead", [], id="XML after white space"),
        pytest.param(Answer(b"", 301, {"Location": ASKED}), "TooManyRedirects", [], id="loop"),
        pytest.param(Answer(b"", 302, {"Location": "ftp://x"}), "InvalidSchema", [], id="to FTP"),
        pytest.param(Answer(b"busy", 503), "HTTP status 503", LATER, id="503"),
        pytest.param(Answer(b"slow", 429), "HTTP status 429", LATER, id="429"),
        pytest.param(
            Answer(CONTENT[:50], promised=len(CONTENT)), "broken off", LATER, id="broken off"
        ),
        pytest.param(Answer(b"", promised=len(CONTENT)), "broken off", LATER, id="nothing sent"),
    ],
)
def test_a_bad_answer_is_named_and_leaves_nothing(
    server: Server, cache: Path, pauses: list[float], answer: Answer, why: str, waited: list[float]
) -> None:
    server.answers[ASKED] = [answer]
    message = refusal(remote(f"{server.url}/tiny/"))
    first, last = message.splitlines()
    assert first.startswith(f"tiny/{NAME}: could not be fetched; tried {server.url}{ASKED} (")
    assert why in first
    for way_out in (
        f"Set DATASET_MIRROR to a folder or URL that holds tiny/{NAME}",
        f"put the file at {(cache / 'tiny' / NAME).as_posix()}",
        "set `dataset: digits` in params.yaml",
    ):
        assert way_out in last
    assert pauses == waited
    recovers(server, cache)


def test_what_is_wrong_for_a_moment_is_tried_again_after_growing_pauses(
    server: Server, cache: Path, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[ASKED] = [
        Answer(b"busy", 503),
        Answer(CONTENT[:50], promised=len(CONTENT)),
        Answer(CONTENT),
    ]
    assert fetch.fetch(remote(f"{server.url}/tiny")).read_bytes() == CONTENT
    assert pauses == [1.0, 2.0]
    assert len(server.requests) == 3
    assert left(cache) == [NAME]
    fetching = f"Fetching {server.url}{ASKED}"
    assert capsys.readouterr().err.splitlines() == [
        fetching,
        "  HTTP status 503",
        f"{NAME}: trying again in 1 s",
        fetching,
        "  broken off",
        f"{NAME}: trying again in 2 s",
        fetching,
    ]


def test_only_addresses_that_may_answer_are_tried_again(
    server: Server, pauses: list[float]
) -> None:
    server.answers["/busy/train%20images.gz"] = [Answer(b"", 503)]
    message = refusal(remote(f"{server.url}/none", f"{server.url}/busy"))
    assert "(HTTP status 404); " in message
    assert "(HTTP status 503)." in message
    assert server.requests.count("/none/train%20images.gz") == 1
    assert server.requests.count("/busy/train%20images.gz") == 1 + len(pauses) == 4


def test_a_refused_connection_is_named(server: Server, cache: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert f"http://127.0.0.1:{port}/train%20images.gz (refused or unreachable)" in refusal(
        remote(f"http://127.0.0.1:{port}")
    )
    recovers(server, cache)


def test_no_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    message = refusal(remote("https://one.example.org/", "https://two.example.org/x"))
    assert message.splitlines()[0] == (
        f"tiny/{NAME}: could not be fetched; tried "
        "https://one.example.org/train%20images.gz (no such host, or no network); "
        "https://two.example.org/x/train%20images.gz (no such host, or no network)."
    )


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(fetch, "_TIMEOUT", (0.05, 0.05))
        monkeypatch.setattr(fetch, "_PAUSES", ())
        message = refusal(remote(f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert "(no answer in time)" in message


@pytest.mark.parametrize(
    "mirror",
    ["ftp://x.org", "file:///data", "http://", "http://[::1", "http://a b", "http://" + "a" * 70],
)
def test_a_mirror_that_is_no_address_is_named(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float], mirror: str
) -> None:
    monkeypatch.setenv("DATASET_MIRROR", mirror)
    assert "(no usable address" in refusal(remote())
    assert pauses == []


def test_a_password_in_an_address_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATASET_MIRROR", server.url.replace("//", "//me:secret@"))
    message = refusal(remote())
    assert "secret" not in message + capsys.readouterr().err
    assert f"{server.url.replace('//', '//***@')}{ASKED} (HTTP status 404)" in message


def test_a_data_set_without_addresses_says_so() -> None:
    assert "tried nothing, as no address is known." in refusal(remote())


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_a_server_that_calls_gzip_an_encoding_gives_the_file_as_it_is(
    server: Server, encoding: str
) -> None:
    # As Apache does with its usual AddEncoding; the file would arrive unpacked otherwise
    server.answers[ASKED] = [Answer(CONTENT, headers={"Content-Encoding": encoding})]
    assert fetch.fetch(remote(f"{server.url}/tiny")).read_bytes() == CONTENT


def test_a_redirection_is_followed(server: Server) -> None:
    server.answers["/old/train%20images.gz"] = [Answer(b"", 301, {"Location": ASKED})]
    server.answers[ASKED] = [Answer(CONTENT)]
    assert fetch.fetch(remote(f"{server.url}/old")).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [FLIPPED, CONTENT[:-1], b""], ids=["flipped", "short", "empty"])
def test_a_damaged_file_in_the_cache_is_fetched_again(
    server: Server, cache: Path, content: bytes
) -> None:
    cached = cache / "tiny" / NAME
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    server.answers[ASKED] = [Answer(CONTENT)]
    assert fetch.fetch(remote(f"{server.url}/tiny")).read_bytes() == CONTENT
    assert left(cache) == [NAME]


def test_a_damaged_file_in_the_cache_is_copied_again(mirrored: Path, cache: Path) -> None:
    (cache / "tiny").mkdir(parents=True)
    (cache / "tiny" / NAME).write_bytes(FLIPPED)
    assert fetch.fetch(remote()).read_bytes() == CONTENT
    assert mirrored.read_bytes() == CONTENT


def test_a_file_put_into_the_cache_by_hand_is_used() -> None:
    path = Path(refusal(remote()).partition("put the file at ")[2].partition(", or")[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)
    assert fetch.fetch(remote()) == path


def test_the_cache_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASET_CACHE")
    folder = fetch.cache_folder()
    assert folder.is_absolute()
    assert folder.name == "image-classification-datasets"


@pytest.mark.usefixtures("mirrored")
@pytest.mark.parametrize("source", ["mirror", "server"])
def test_a_cache_that_cannot_be_made_is_named(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    server.answers[ASKED] = [Answer(CONTENT)]
    cache.write_text("a file where the folder should be")
    if source == "server":
        monkeypatch.delenv("DATASET_MIRROR")
    message = refusal(remote(f"{server.url}/tiny"))
    assert f"the cache is {cache.as_posix()}.\n" in message
    assert message.endswith("or set DATASET_CACHE to another folder.")


@pytest.mark.usefixtures("mirrored")
@pytest.mark.parametrize("source", ["mirror", "server"])
def test_a_full_disk_is_named_and_leaves_nothing(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    server.answers[ASKED] = [Answer(CONTENT)]
    with monkeypatch.context() as patched:
        if source == "server":
            patched.setattr(fetch._Bounded, "write", full)
            patched.delenv("DATASET_MIRROR")
        else:
            patched.setattr(shutil, "copyfile", full)
        message = refusal(remote(f"{server.url}/tiny"))
    cached = (cache / "tiny" / NAME).as_posix()
    assert message.startswith(
        f"{cached}: No space left on device; the cache is {cache.as_posix()}.\n"
    )
    assert left(cache) == []
    assert fetch.fetch(remote()).read_bytes() == CONTENT


def test_an_interrupted_transfer_leaves_nothing(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        assert len(left(cache)) == 1  # the temporary file
        raise KeyboardInterrupt

    server.answers[ASKED] = [Answer(CONTENT)]
    with monkeypatch.context() as patched:
        patched.setattr(pooch.HTTPDownloader, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch.fetch(remote(f"{server.url}/tiny"))
    recovers(server, cache)


def test_a_terminal_gets_a_progress_bar(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    server.answers[ASKED] = [Answer(CONTENT)]
    assert fetch.fetch(remote(f"{server.url}/tiny")).read_bytes() == CONTENT
    assert "100%|" in capsys.readouterr().err


@pytest.mark.parametrize("stated", [True, False], ids=["size stated", "size not stated"])
def test_an_endless_answer_is_cut_off(
    cache: Path, monkeypatch: pytest.MonkeyPatch, stated: bool
) -> None:
    sent = [0]

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the other side hangs up
                while sent[0] < 200_000_000:
                    sent[0] += self.wfile.write(b"x" * 100_000)

        def log_message(self, *_: object) -> None:
            pass

    bound = len(CONTENT) if stated else 1_000_000
    monkeypatch.setattr(fetch, "_LARGEST", 1_000_000)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        file = remote(f"http://127.0.0.1:{listening.server_port}")
        message = refusal(dataclasses.replace(file, size=bound if stated else None))
        listening.shutdown()
        thread.join()
    assert f"(more than the expected {bound:,} bytes)" in message
    assert sent[0] < 50_000_000  # what the system's buffers take
    assert left(cache) == []


def test_a_transfer_that_was_killed_leaves_nothing_after_the_next_one(
    server: Server, cache: Path
) -> None:
    script = """
import os, sys
from stages.lib.data import fetch
fetch._Bounded.write = lambda self, data: os._exit(9)
fetch.fetch(fetch.RemoteFile("tiny", sys.argv[1], "0" * 64, [sys.argv[2]]))
"""
    server.answers[ASKED] = [Answer(CONTENT)]
    command = [sys.executable, "-c", script, NAME, f"{server.url}/tiny"]
    done = execute(command, ROOT, DATASET_CACHE=str(cache))
    assert done.code == 9, done
    assert len(left(cache)) == 1
    fetch.fetch(remote(f"{server.url}/tiny"))
    assert left(cache) == [NAME]
