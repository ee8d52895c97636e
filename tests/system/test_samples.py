"""Each sample of config/ is a configuration that vanrouter takes, and says of itself what it shows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.system.harness import vanrouter_program
from vanrouter.mgmt.config import Configuration, load_file

ROOT = Path(__file__).parents[2]
FOR_OTHER_PROGRAMS = {"grafana-dashboard.json", "prometheus-rules.yaml"}
"""`tests/unit/mgmt/test_series.py` and `tests/system/test_port.py` look at these."""
SAMPLES = sorted(path for path in (ROOT / "config").iterdir() if path.name not in FOR_OTHER_PROGRAMS)


def described(configuration: Configuration) -> list[tuple[str, dict[str, object]]]:
    return [(entity.type, dict(entity.attributes)) for entity in configuration.entities]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_sample_loads(sample: Path) -> None:
    configuration = load_file(str(sample))
    assert configuration.of("listener") or configuration.of("connector")
    assert sample.read_text().startswith("# ")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_sample_passes_the_check(sample: Path) -> None:
    result = subprocess.run(
        [vanrouter_program(), "--check", "-c", sample], capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 0, result.stderr


def test_three_forms_say_the_same() -> None:
    conf, json_form, yaml_form = (
        described(load_file(str(ROOT / "config" / f"single.{end}"))) for end in ("conf", "json", "yaml")
    )
    assert conf == json_form == yaml_form


def test_links_of_pairs_meet() -> None:
    for listening, connecting in (
        ("mutual-tls-a", "mutual-tls-b"),
        ("tcp-service-a", "tcp-service-b"),
        ("http-services-a", "http-services-b"),
        ("chain-a", "chain-b"),
        ("chain-b", "chain-c"),
    ):
        ports = [
            {
                entity.attributes["port"]
                for entity in load_file(str(ROOT / "config" / f"{name}.conf")).of(kind)
                if entity.attributes["role"] == "inter-router"
            }
            for name, kind in ((listening, "listener"), (connecting, "connector"))
        ]
        assert ports[0] & ports[1]
