"""The floors of the architecture: imports run downward only, pure rooms stay pure, one package touches Proton."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vanrouter"

BOTTOM = ("errors", "histogram", "ids")
FLOORS: dict[str, tuple[str, ...]] = {
    # A room (module or package below `vanrouter`) and what of vanrouter it may import; the most exact name decides.
    "errors": (),
    "histogram": (),
    "ids": (),
    "routing": (*BOTTOM, "routing"),
    "net": (*BOTTOM, "net"),
    "engine": (*BOTTOM, "engine"),
    "mgmt": (*BOTTOM, "mgmt"),
    "core": (*BOTTOM, "core", "engine", "routing", "net.reactor", "net.memory"),
    "adaptors": (*BOTTOM, "core", "engine", "net", "mgmt.metrics", "adaptors.base"),
    "adaptors.observer_http2": (*BOTTOM, "core", "adaptors.http2_frames", "adaptors.http2_hpack"),
    "adaptors.observer_tap": (*BOTTOM, "core", "adaptors.http2_frames"),
    "adaptors.tcp_listener": (*BOTTOM, "core", "engine", "net", "adaptors.observer_tap"),
    "adaptors.tcp_shared": (*BOTTOM, "core", "engine", "net", "adaptors.observer_http2"),
    "server": (*BOTTOM, "adaptors", "core", "engine", "net", "routing", "mgmt", "server"),
    "cli": (*BOTTOM, "mgmt.client", "mgmt.config", "mgmt.entity_types", "mgmt.levels", "mgmt.lines", "cli"),
    "cli.top": (*BOTTOM, "mgmt.client", "mgmt.lines", "mgmt.vanflow_client", "mgmt.vanflow_summary", "cli"),
    "cli.vanrouter": (*BOTTOM, "server", "mgmt.advice", "mgmt.config", "mgmt.logs", "mgmt.options", "cli"),
    "__main__": ("cli",),
}

PURE = (
    "routing", "mgmt.schema", "mgmt.attributes", "mgmt.entities", "mgmt.config", "mgmt.agent",
    "mgmt.advice", "mgmt.vanflow", "mgmt.vanflow_picture", "mgmt.vanflow_source", "mgmt.vanflow_summary",
)  # fmt: skip
IMPURE_MODULES = {
    "asyncio", "http", "logging.handlers", "multiprocessing", "queue", "random", "secrets", "select", "selectors",
    "signal", "socket", "socketserver", "ssl", "subprocess", "threading", "time", "urllib", "uvloop",
}  # fmt: skip
PROTON = {"proton", "cproton", "cproton_ffi"}
PROTON_ROOMS = ("engine", "mgmt.client", "mgmt.vanflow_client")

MODULE_LINES = 600
FUNCTION_LINES = 60
DEFENCE = "Long because"
"""A longer module or function defends itself with these words in its docstring."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """Return the name below `vanrouter`; packages by their own name, the root package as the empty one."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(room: str, allowed: tuple[str, ...]) -> bool:
    return any(room == name or room.startswith(name + ".") for name in allowed)


def is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(path: Path, *, typing_too: bool = True) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything imported, also inside functions."""
    tree = ast.parse(path.read_text(), str(path))
    skipped = {inner for node in ast.walk(tree) if is_typing_only(node) and not typing_too for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def room_imported(name: str) -> str | None:
    """Return the room of vanrouter that an import reaches: `vanrouter.core.table.Table` gives `core.table`."""
    first, _, rest = name.partition(".")
    if first != "vanrouter":
        return None
    parts = rest.split(".") if rest else []
    while parts:
        candidate = PACKAGE.joinpath(*parts)
        if candidate.is_dir() or candidate.with_suffix(".py").is_file():
            return ".".join(parts)
        parts.pop()
    return ""  # the root package: its version


def allowance(room: str) -> tuple[str, ...]:
    parts = room.split(".")
    while parts:
        if ".".join(parts) in FLOORS:
            return FLOORS[".".join(parts)]
        parts.pop()
    pytest.fail(f"vanrouter.{room} has no floor")


def protocol_of(room: str) -> str:
    """Return what an adaptor speaks: modules of one protocol (`tcp`, `tcp_listener`; `http`, `http1_server`) may know
    each other."""
    return room.split(".")[1].split("_", maxsplit=1)[0].rstrip("0123456789")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    room = room_of(path)
    if not room:
        return
    allowed = allowance(room)
    for line, name in imports(path):
        reached = room_imported(name)
        if not reached or within(reached, allowed):
            continue
        siblings = room.startswith("adaptors.") and reached.startswith("adaptors.")
        same_protocol = siblings and protocol_of(room) == protocol_of(reached)
        assert same_protocol, (
            f"{path}:{line}: {room} may not import {reached}; it may import {', '.join(allowed) or 'nothing'}"
        )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_engine_touches_proton(path: Path) -> None:
    if within(room_of(path), PROTON_ROOMS):
        return
    for line, name in imports(path):
        assert name.split(".")[0] not in PROTON, f"{path}:{line}: {name} is for {' and '.join(PROTON_ROOMS)}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if within(room_of(path), PURE)], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_pure_rooms_are_told(path: Path) -> None:
    for line, name in imports(path):
        names = {".".join(name.split(".")[:count]) for count in (1, 2)}
        assert not names & IMPURE_MODULES, f"{path}:{line}: a pure room is told the time and handed what it needs"


def test_no_circle() -> None:
    graph = {
        room_of(path): {reached for _, name in imports(path, typing_too=False) if (reached := room_imported(name))}
        for path in modules()
    }
    done: set[str] = set()

    def walk(room: str, trail: tuple[str, ...]) -> None:
        assert room not in trail, " -> ".join([*trail[trail.index(room) :], room])
        if room in done:
            return
        for following in sorted(graph.get(room, ())):
            if following != room:
                walk(following, (*trail, room))
        done.add(room)

    for room in graph:
        walk(room, ())


def length_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    end = node.end_lineno or node.lineno
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return end - node.lineno + 1 - ((first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_lengths(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text, str(path))
    lines = text.count("\n")
    assert lines <= MODULE_LINES or DEFENCE in (ast.get_docstring(tree) or ""), f"{path} has {lines} lines"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = length_without_docstring(node)
            assert length <= FUNCTION_LINES or DEFENCE in (ast.get_docstring(node) or ""), (
                f"{path}:{node.lineno}: {node.name} has {length} lines"
            )
