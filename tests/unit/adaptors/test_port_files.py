"""Files below the folder, and all the ways that lead out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vanrouter.adaptors.port_files import serve, type_of
from vanrouter.adaptors.port_messages import Response


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("files")
    (base / "secret.txt").write_text("secret")
    (base / "rooted").mkdir()
    (base / "rooted" / "secret.txt").write_text("secret")
    root = base / "root"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_text("index")
    (root / "sub" / "a b.json").write_text("{}")
    (root / "..data").mkdir()
    (root / "..data" / "inside.txt").write_text("inside")
    (root / "inside.txt").symlink_to("..data/inside.txt")
    (root / "outside.txt").symlink_to("../secret.txt")
    (root / "absolute").symlink_to(base)
    (root / "neighbour").symlink_to(base / "rooted")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    return root


def read(response: Response) -> bytes:
    assert response.status == 200
    assert response.file is not None
    data = response.file.read(1000)
    assert len(data) == response.file.size
    response.file.close()
    return data


@pytest.mark.parametrize(
    ("path", "content", "content_type"),
    [
        ("/", b"index", "text/html; charset=utf-8"),
        ("/index.html", b"index", "text/html; charset=utf-8"),
        ("//sub/./a b.json", b"{}", "application/json"),
        ("/inside.txt", b"inside", "text/plain; charset=utf-8"),
    ],
)
def test_what_is_there(root: Path, path: str, content: bytes, content_type: str) -> None:
    response = serve(str(root), path)
    assert response.content_type == content_type
    assert read(response) == content


@pytest.mark.parametrize(
    "path",
    [
        "/nosuch", "/sub", "/../secret.txt", "/sub/../../secret.txt", "/..", "/outside.txt", "/absolute/secret.txt",
        "/neighbour/secret.txt", "/loop", "/fifo", "/index.html/x", "/a\0b", "/\udcff", "/" + "x" * 5000,
    ],
)  # fmt: skip
def test_what_is_not(root: Path, path: str) -> None:
    assert serve(str(root), path).status == 404


def test_what_may_not_be_read(root: Path) -> None:
    (root / "locked").write_text("")
    (root / "locked").chmod(0)
    assert serve(str(root), "/locked").status == (200 if os.geteuid() == 0 else 403)


def test_a_copy_that_is_still_good(root: Path) -> None:
    first = serve(str(root), "/")
    read(first)
    tag = dict(first.headers)["etag"]
    again = serve(str(root), "/", f'"other", W/{tag}')
    assert (again.status, again.file) == (304, None)
    assert serve(str(root), "/", '"other"').status == 200


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["..", ".", "sub", "", "secret.txt", "absolute", "\\", "%2e%2e", "inside.txt", "~"])))
def test_nothing_outside_is_ever_served(root: Path, parts: list[str]) -> None:
    response = serve(str(root), "/" + "/".join(parts))
    if response.status == 200:
        assert b"secret" not in read(response)


def test_descriptors_are_closed(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/nosuch", "/outside.txt", "/sub", "/fifo"):
        serve(str(root), path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_types() -> None:
    assert type_of("x.WOFF2") == "font/woff2"
    assert type_of("x.unknown") == type_of("x") == "application/octet-stream"
