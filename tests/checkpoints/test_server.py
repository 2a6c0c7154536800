"""Whether a server would give a file: asked as a transfer asks, and never for long."""

import time

import pytest

from rcnn_jax.checkpoints import server
from tests.checkpoints.http_server import serving

PATH = "/models/a.pth"


@pytest.fixture
def site(monkeypatch):
    for name in (server.MIRROR_VARIABLE, server.OFFLINE_VARIABLE, "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        running.files[PATH] = bytes(1000)
        yield running


def test_a_server_that_has_the_file_is_asked_for_one_byte(site):
    assert server.unreachable(f"{site.address}{PATH}") == ""
    assert [asked for _, asked, _ in site.asked] == ["bytes=0-0"]


def test_a_server_without_the_file_says_its_answer(site):
    assert server.unreachable(f"{site.address}/b.pth").startswith("the server answered 404")


def test_a_server_that_never_answers_counts_as_absent_after_the_timeout(site, monkeypatch):
    monkeypatch.setattr(server.socket, "getaddrinfo", lambda *_, **__: time.sleep(60))
    began = time.monotonic()
    # Seconds are compared with a minute, which a resolver without a network may take.
    reason = server.unreachable(f"{site.address}{PATH}", timeout=0.1)
    assert reason == "no answer within 0.1 s"
    assert time.monotonic() - began < 30


def test_the_mirror_is_asked_in_the_place_of_the_publisher(site, monkeypatch):
    url = "https://publisher.example/models/a.pth"
    monkeypatch.setenv(server.MIRROR_VARIABLE, f"{site.address}/")
    assert server.mirrored(url) == f"{site.address}/publisher.example/models/a.pth"
    site.files["/publisher.example/models/a.pth"] = b"weights"
    assert server.unreachable(url) == ""
    monkeypatch.setenv(server.MIRROR_VARIABLE, "/disk/weights")
    assert "expected an http or https address" in server.unreachable(url)


def test_where_the_network_is_forbidden_nobody_is_asked(site, monkeypatch):
    monkeypatch.setenv(server.OFFLINE_VARIABLE, "1")
    assert server.unreachable(f"{site.address}{PATH}") == "the network is not to be used"
    assert not site.asked


def test_a_password_becomes_a_header_that_no_redirect_gets():
    request = server.request_for("https://user:pass%20word@publisher.example/a.pth?x=1")
    assert request.full_url == "https://publisher.example/a.pth?x=1"
    assert request.unredirected_hdrs == {"Authorization": "Basic dXNlcjpwYXNzIHdvcmQ="}
    assert "Authorization" not in request.headers
