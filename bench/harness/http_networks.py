"""Two routers with HTTP listeners and connectors, and the services behind them: nginx and a gRPC server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.harness.chains import NO_ROUTER, SKROUTERD, START_TIMEOUT_S, Network, await_ports, free_port
from bench.harness.networks import World
from bench.harness.processes import BenchError, pause

PROTOCOLS = {"http1": "HTTP1", "http2": "HTTP2", "grpc": "HTTP2"}

_NGINX = """daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000;
  server {{ listen 127.0.0.1:{http1}; location / {{ return 200 "hello, world"; }} }}
  server {{ listen 127.0.0.1:{http2} http2; location / {{ return 200 "hello, world"; }} }}
}}
"""
TCP = "http1-tcp"
"""The server of HTTP/1.1 once more, as a plain TCP service."""

_TCP_SECTION = """{kind} {{
  name: {name}
  address: {name}
  host: 127.0.0.1
  port: {port}
}}
"""
_SECTION = """{kind} {{
  name: {name}
  address: {name}
  host: 127.0.0.1
  port: {port}
  protocolVersion: {protocol}
}}
"""
_ROUTER = """router {{
  mode: interior
  id: {id}
}}
{kind} {{
  host: 127.0.0.1
  port: {port}
  role: inter-router
}}
"""

_services: dict[str, int] = {}
_networks: dict[str, Network] = {}


def command(world: World, kind: str) -> list[str] | None:
    """Return the router of a kind that has an HTTP adaptor: of the C router that is 2.7 (SKROUTERD2), 3.x has none."""
    if kind == SKROUTERD:
        old = os.environ.get("SKROUTERD2")
        return [old] if old else None
    return None if kind in NO_ROUTER else world.kinds[kind]


def services(world: World) -> dict[str, int]:
    """Return the ports of the services themselves."""
    if not _services:
        nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if nginx is None:
            raise BenchError("nginx is not installed: tools/setup.sh bench")
        ports = {"http1": free_port(), "http2": free_port()}
        folder = world.folder / "nginx"
        folder.mkdir()
        configuration = folder / "nginx.conf"
        configuration.write_text(_NGINX.format(folder=folder, **ports))
        server = world.programs.start("nginx", [nginx, "-c", str(configuration)])
        await_ports(server, list(ports.values()))
        grpc = world.programs.python("bench.load.grpc_server")
        _services.update(ports, grpc=grpc.answer(START_TIMEOUT_S)["port"])
    return _services


def network(world: World, kind: str) -> Network | None:
    """Return the network of a kind, started when first asked for; None where the kind has no HTTP."""
    found = _networks.get(kind)
    argv = command(world, kind)
    if found is None and argv is not None:
        found = _networks[kind] = _start(world, kind, argv)
    return found


def _start(world: World, kind: str, argv: list[str]) -> Network:
    link, ports, plain = free_port(), {name: free_port() for name in PROTOCOLS}, free_port()
    server = services(world)["http1"]
    texts = (
        _ROUTER.format(id="http0", kind="listener", port=link)
        + _sections("httpListener", ports)
        + _TCP_SECTION.format(kind="tcpListener", name=TCP, port=plain),
        _ROUTER.format(id="http1", kind="connector", port=link)
        + _sections("httpConnector", services(world))
        + _TCP_SECTION.format(kind="tcpConnector", name=TCP, port=server),
    )
    hops = []
    for number, text in enumerate(texts):
        path: Path = world.folder / f"http-{kind}-{number}.conf"
        path.write_text(text)
        hops.append(world.programs.start(kind, [*argv, "-c", str(path)]))
    ports[TCP] = plain
    await_ports(hops[0], list(ports.values()))
    pause(0.5)
    return Network(kind, hops, ports)


def _sections(kind: str, ports: Mapping[str, int]) -> str:
    return "".join(
        _SECTION.format(kind=kind, name=name, port=port, protocol=PROTOCOLS[name]) for name, port in ports.items()
    )
