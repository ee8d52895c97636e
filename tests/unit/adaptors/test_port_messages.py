from __future__ import annotations

import os

import pytest

from vanrouter.adaptors.port_messages import OpenFile, Request, Response, error_page, path_of, plain


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", "/"),
        (b"/a%20b?c=%20", "/a b"),
        (b"/a#b", "/a"),
        (b"/%2e%2e/x", "/../x"),
        (b"/%252e", "/%2e"),
        (b"http://host:1/p?q", "/p"),
        (b"http://host", "/"),
        (b"*", "/"),
        (b"/%ff", "/\udcff"),
    ],
)
def test_paths_are_decoded_once(target: bytes, path: str) -> None:
    assert path_of(target) == path


def test_an_absent_header_is_not_an_empty_one() -> None:
    request = Request(method="GET", path="/", headers=((b"accept", b""), (b"accept", b"x")))
    assert request.header(b"accept") == ""
    assert request.header(b"host") is None


def test_lengths() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    file = OpenFile(reading, 7)
    assert Response(pieces=(b"ab", b"c"), file=file).length == 10
    assert file.read(1) == b""
    file.close()
    file.close()
    assert file.descriptor == -1


def test_small_answers() -> None:
    assert plain(503, "a", "b", headers=[("x", "y")]) == Response(
        status=503, pieces=(b"a\nb\n",), headers=(("x", "y"),)
    )
    page = error_page(404, "gone")
    assert page.status == 404
    assert b"<h1>404 Not Found</h1><p>gone</p>" in page.pieces[0]
