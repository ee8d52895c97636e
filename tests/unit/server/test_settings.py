"""What entities mean to the rooms that carry them out (management.md, section 8)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.server.sites import ROUTER, Bench
from tests.unit.server.test_site import entity, section
from vanrouter.errors import ConfigError
from vanrouter.server.settings import control_settings, failover_entries

Made = Callable[[str], Bench]


@pytest.mark.parametrize(("uid_format", "kept"), [("cn", "cn"), ("1", "1"), ("x", None), ("", None)])
def test_formats_of_users(bench_of: Made, tmp_path: Path, uid_format: str, kept: str | None) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"a;b": "somebody"}))
    bench = bench_of(ROUTER + section("sslProfile", name="p", uidNameMappingFile=names))
    for config in bench.site._configuration.entities:
        bench.site.registry.load(config)
    profile = entity(bench, "sslProfile", "p")
    profile.attributes["uidFormat"] = uid_format
    assert bench.site.settings._uid_format(profile) == kept
    assert bench.site.settings._display_names(profile) == {"a;b": "somebody"}
    for content in ("{", "[1]"):
        names.write_text(content)
        with pytest.raises(ConfigError, match="names"):
            bench.site.settings._display_names(profile)


@pytest.mark.parametrize(
    ("urls", "entries"),
    [
        ("", ()),
        ("one", ({"network-host": "one", "port": "amqp"},)),
        (
            "amqps://one, amqp://two:7 ,",
            (
                {"network-host": "one", "port": "amqps", "scheme": "amqps"},
                {"network-host": "two", "port": "7", "scheme": "amqp"},
            ),
        ),
    ],
)
def test_failover_urls(urls: str, entries: tuple[dict[str, str], ...]) -> None:
    assert failover_entries(urls) == entries


def test_intervals_of_the_routing_protocol() -> None:
    assert control_settings({}).hello_interval_s == 1
    settings = control_settings({"helloMaxAgeSeconds": 9, "raIntervalSeconds": "no number"})
    assert (settings.hello_max_age_s, settings.ra_interval_s) == (9, 30)


@pytest.mark.parametrize(
    ("attributes", "count"),
    [("", 2), ("dataConnectionCount: 0", 0), ("dataConnectionCount: 5", 5), ("workerThreads: 7", 4)],
)
def test_data_connections(bench_of: Made, attributes: str, count: int) -> None:
    assert bench_of(ROUTER.replace("id: S\n", f"id: S\n    {attributes}\n")).site.settings.data_connections() == count
