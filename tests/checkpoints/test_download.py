"""Against a server on this machine that does what servers, proxies and networks do."""

import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rcnn_jax.checkpoints import download
from rcnn_jax.checkpoints.cache import Digest, cached_path, named_digest, shown
from rcnn_jax.checkpoints.download import fetch
from rcnn_jax.errors import CheckpointError
from rcnn_jax.reporter import SafeConsole
from tests.checkpoints.http_server import serving

CONTENT = bytes(range(256)) * 20_000  # 5 MB
DIGEST = Digest("sha256", hashlib.sha256(CONTENT).hexdigest()[:8])
PATH = "/models/a.pth"
NOBODY = 65534


@pytest.fixture
def site():
    with serving() as server:
        server.files[PATH] = CONTENT
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in ("RCNN_JAX_WEIGHTS_MIRROR", "RCNN_JAX_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def get(site, path=PATH, digest=DIGEST, **options):
    return fetch(f"{site.address}{path}", digest, pause=0.01, timeout=5.0, **options)


def refusal(site, path=PATH, digest=DIGEST, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        get(site, path, digest, **options)
    return str(caught.value)


def left_over(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_a_file_is_fetched_once_and_lies_under_its_address(site, cache):
    path = get(site)
    host = site.address.removeprefix("http://").replace(":", "+")
    assert path == cache / "weights" / host / "models" / "a.pth" == cached_path(site.address + PATH)
    assert path.read_bytes() == CONTENT and get(site) == path
    assert len(site.asked) == 1 and left_over(cache) == ["a.pth"]


def test_a_transfer_that_breaks_off_goes_on_where_it_was(site):
    site.cut_after = [3_000_000]
    assert get(site).read_bytes() == CONTENT
    assert [asked for _, asked, _ in site.asked] == ["", "bytes=3000000-"]


def test_what_an_ended_process_left_is_gone_on_with(site, cache):
    site.cut_after = [1000] * 4
    message = refusal(site)
    assert (
        "broke off after 4,000 of 5,120,000 bytes" in message
        and str(cached_path(site.address + PATH)) in message
    )
    assert left_over(cache) == ["a.pth.mark", "a.pth.part"]
    site.asked.clear()
    assert get(site).read_bytes() == CONTENT
    assert site.asked[0][1] == "bytes=4000-" and left_over(cache) == ["a.pth"]


def test_the_rest_of_another_version_is_not_joined_to_the_first_half(site):
    site.cut_after = [2_000_000] + [0] * 3
    refusal(site, digest=None)
    site.files[PATH], site.etag = CONTENT[::-1], '"2"'
    assert get(site, digest=None).read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_sends_all_of_it_again(site):
    site.cut_after, site.ranges = [2_000_000], False
    assert get(site).read_bytes() == CONTENT


def test_half_a_file_of_other_content_is_thrown_away_and_fetched_whole(site):
    part = cached_path(site.address + PATH).with_name("a.pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert get(site).read_bytes() == CONTENT and len(site.asked) == 2


def test_a_whole_file_that_only_lacks_its_name_is_not_fetched_again(site):
    part = cached_path(site.address + PATH).with_name("a.pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert get(site).read_bytes() == CONTENT and site.asked[0][1] == f"bytes={len(CONTENT)}-"


def test_a_file_of_another_digest_is_refused_and_deleted(site, cache):
    site.files[PATH] = CONTENT[:-1] + b"x"
    message = refusal(site)
    assert "is not the file: its sha256 should begin with" in message and DIGEST.prefix in message
    assert left_over(cache) == []


def test_a_wrong_file_in_the_cache_is_fetched_anew(site):
    path = cached_path(site.address + PATH)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    assert get(site).read_bytes() == CONTENT


@pytest.mark.parametrize("code", [404, 403])
def test_a_refusal_of_the_server_is_told_at_once(site, cache, code):
    site.status[PATH] = code
    message = refusal(site, what="coco/it")
    assert message.startswith(
        f"coco/it: cannot be fetched from {site.address}{PATH}: the server answered {code}"
    )
    assert f"put the file at {cached_path(site.address + PATH)}" in message
    assert len(site.asked) == 1 and left_over(cache) == []


def test_a_server_that_is_busy_is_asked_again(site):
    site.status[PATH] = 503
    assert "answered 503" in refusal(site) and len(site.asked) == download.ATTEMPTS


def test_redirects_are_followed(site):
    site.redirects["/old.pth"] = f"{site.address}{PATH}"
    path = get(site, "/old.pth")
    assert path.read_bytes() == CONTENT and path.name == "old.pth"


@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream"])
def test_the_page_of_a_proxy_is_no_file(site, cache, kind):
    site.page, site.page_type = True, kind
    message = refusal(site)
    assert "proxy" in message and "put it at" in message
    assert left_over(cache) == []


def test_a_slow_line_is_no_error_and_a_silent_one_is(site):
    site.files[PATH] = CONTENT[:20_000]
    digest = Digest("md5", hashlib.md5(CONTENT[:20_000]).hexdigest()[:6])
    site.pause = 0.01
    assert get(site, digest=digest).stat().st_size == 20_000
    site.files["/b.pth"], site.pause = CONTENT[:20_000], 1.0
    with pytest.raises(CheckpointError, match="sent nothing for too long"):
        fetch(f"{site.address}/b.pth", None, pause=0.01, timeout=0.1)


def test_without_a_network_one_message_says_what_from_where_and_where_to(cache):
    url = "http://nobody.invalid/models/a-12345678.pth"
    with pytest.raises(CheckpointError) as caught:
        fetch(url, named_digest(url), what="coco/it", pause=0.01)
    assert str(caught.value).startswith(f"coco/it: cannot be fetched from {url}: ")
    assert str(caught.value).endswith(f"put the file at {cached_path(url)}")


def test_offline_the_cache_alone_is_asked(site, monkeypatch):
    assert "the network is not to be used" in refusal(site, offline=True)
    monkeypatch.setenv("RCNN_JAX_OFFLINE", "1")
    assert "the network is not to be used" in refusal(site)
    assert site.asked == []
    path = cached_path(site.address + PATH)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert get(site) == path
    path.write_bytes(b"another")
    assert "is another file" in refusal(site)


def test_a_mirror_has_the_files_as_the_cache_has_them(site, monkeypatch, cache):
    url = "https://example.org/models/a.pth"
    site.files["/below/example.org/models/a.pth"] = CONTENT
    monkeypatch.setenv("RCNN_JAX_WEIGHTS_MIRROR", f"{site.address}/below/")
    path = fetch(url, DIGEST)
    assert path == cache / "weights/example.org/models/a.pth" and path.read_bytes() == CONTENT
    monkeypatch.setenv("RCNN_JAX_WEIGHTS_MIRROR", "folder")
    with pytest.raises(CheckpointError, match="RCNN_JAX_WEIGHTS_MIRROR=folder: expected an http"):
        fetch("https://example.org/models/b.pth", DIGEST)


def test_the_proxy_of_the_usual_variables_is_asked(site, monkeypatch):
    url = "http://weights.invalid/models/a.pth"
    site.files[url] = CONTENT  # a proxy is asked for whole addresses
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", site.address)
    assert fetch(url, DIGEST).read_bytes() == CONTENT
    assert [path for path, _, _ in site.asked] == [url]
    site.status["http://weights.invalid/b.pth"] = 407
    with pytest.raises(CheckpointError, match="the server answered 407"):
        fetch("http://weights.invalid/b.pth", None)


def test_names_and_passwords_of_addresses_reach_no_message_and_no_redirect(site):
    secret = site.address.replace("http://", "http://me:hunter2@")
    site.redirects["/old.pth"] = f"{site.address}/nothing.pth"
    with pytest.raises(CheckpointError) as caught:
        fetch(f"{secret}/old.pth?token=abc", None, pause=0.01)
    assert "hunter2" not in str(caught.value) and "abc" not in str(caught.value)
    assert site.asked[0][2].startswith("Basic ") and site.asked[1][2] == ""
    assert shown("https://me:hunter2@example.org/a?b=c") == "https://example.org/a"


@pytest.mark.parametrize(
    "url", ["ftp://a/b.pth", "https://a", "folder/a.pth", "file:///etc/passwd"]
)
def test_what_is_no_address_of_a_file_is_one_message(url):
    with pytest.raises(CheckpointError, match="expected the http or https address of a file"):
        fetch(url, None)


@contextlib.contextmanager
def without_rights():
    """Runs as a user who owns nothing: root writes everywhere."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except OSError as error:
        pytest.skip(f"root cannot become another user here: {error}")
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_cache_that_cannot_be_written_serves_what_it_has(site, monkeypatch):
    # Not below tmp_path, which others than its owner cannot enter.
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("RCNN_JAX_CACHE", folder)
        path = get(site)
        below = [*reversed([p for p in path.parents if p.is_relative_to(folder)]), path]
        for each in below:
            each.chmod(0o555)
        try:
            with without_rights():
                assert get(site) == path
                message = refusal(site, "/models/b.pth")
        finally:
            for each in below:
                each.chmod(0o755)
    assert "b.pth: cannot be kept in " in message and "Permission denied" in message
    assert "set RCNN_JAX_CACHE to a folder that can be written" in message
    assert f"have {site.address}/models/b.pth put at {path.with_name('b.pth')}" in message


def test_a_cache_below_a_file_is_one_message(site, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path / "file"))
    assert "set RCNN_JAX_CACHE to a folder that can be written" in refusal(site)


def test_of_two_processes_one_fetches_and_the_other_waits(site, cache):
    site.pause = 0.001
    program = (
        "import sys; from rcnn_jax.checkpoints.cache import Digest\n"
        "from rcnn_jax.checkpoints.download import fetch\n"
        f"print(fetch({site.address + PATH!r}, Digest('sha256', {DIGEST.prefix!r})).stat().st_size)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [one.communicate(timeout=60)[0].strip() for one in running] == [str(len(CONTENT))] * 2
    assert len(site.asked) == 1 and left_over(cache) == ["a.pth"]


def test_the_progress_counts_mebibytes(site):
    counted = []

    class Told:
        console = SafeConsole(file=io.StringIO())

        def note(self, text):
            pass

        warn = note

        def track(self, items, total, label):
            counted.append((total, label, len(list(items))))
            return ()

    get(site, what="it", reporter=Told())
    assert counted == [(5, "fetching it (MiB)", 4)]
