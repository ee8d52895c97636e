"""Two sites on this machine, linked by mutual TLS; an HTTP service of one is reached through a plain port of the other.

`make demo` runs it to its end. `make demo KEEP=1` leaves the two sites and the service running and prints what to try.
The certificates are made now, for loopback, and end with the folder they stand in.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from certificates import make_certificates

BIN = Path(sys.executable).parent
DEADLINE_S = 30.0
"""For each step: reaching it means that something is wrong."""
PAGES = 20
AT_ONCE = 4
FILE_BYTES = 5_000_000

SITE_A = """\
router {{
    mode: interior
    id: A
}}
ssl-profile {{
    name: sites
    caCertFile: {folder}/ca.crt
    certFile: {folder}/site-a.crt
    privateKeyFile: {folder}/site-a.key
}}
listener {{
    name: neighbours
    role: inter-router
    host: 127.0.0.1
    port: 0
    sslProfile: sites
    saslMechanisms: EXTERNAL
    authenticatePeer: yes
    requireSsl: yes
}}
listener {{
    name: amqp
    host: 127.0.0.1
    port: 0
}}
tcp-listener {{
    name: web
    address: web
    host: 127.0.0.1
    port: 0
}}
"""

SITE_B = """\
router {{
    mode: interior
    id: B
}}
ssl-profile {{
    name: sites
    caCertFile: {folder}/ca.crt
    certFile: {folder}/site-b.crt
    privateKeyFile: {folder}/site-b.key
}}
connector {{
    name: to-a
    role: inter-router
    host: localhost
    port: {neighbours}
    sslProfile: sites
    saslMechanisms: EXTERNAL
}}
listener {{
    name: amqp
    host: 127.0.0.1
    port: 0
}}
tcp-connector {{
    name: web
    address: web
    host: 127.0.0.1
    port: {web}
}}
"""


class DemoError(Exception):
    """A step did not come true; says which, and shows the log."""


class Running:
    """A program of the demo; its output goes to a file and to who waits for a line."""

    def __init__(self, name: str, command: list[str | Path], log: Path, *, outlives: bool) -> None:
        self.name = name
        self.log = log
        self._position = 0
        self._file = log.open("wb")
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=outlives,
        )
        self._file.close()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the match of the first line that has it."""
        deadline = time.monotonic() + DEADLINE_S
        pause = threading.Event()
        while time.monotonic() < deadline:
            text = self.log.read_text(errors="replace")
            if match := re.search(pattern, text):
                return match
            if self.process.poll() is not None:
                break
            pause.wait(0.02)
        raise DemoError(f"{self.name} did not get as far as {pattern!r}; its log is {self.log}")

    def complaints(self) -> list[str]:
        """Return the last lines of its log that are worse than information; the last of all where there is none."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if re.search(r" \((warning|error|critical)\) ", line)][-5:] or lines[-3:]

    def stop(self) -> int:
        """Stop it as an operator would; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise DemoError(f"{self.name} did not stop; see {self.log}") from None


def start_service(folder: Path, running: list[Running], *, outlives: bool) -> tuple[Running, int]:
    """Start a real HTTP service, a page and a larger file; return it and its port."""
    www = folder / "www"
    www.mkdir()
    (www / "index.html").write_text("<p>Hello from the service at site B.</p>\n")
    (www / "big.bin").write_bytes(os.urandom(FILE_BYTES))
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", www, "0"]
    service = Running("the HTTP service", command, folder / "service.log", outlives=outlives)
    running.append(service)
    return service, int(service.wait_for(r"Serving HTTP on \S+ port (\d+)")[1])


def start_site(name: str, text: str, folder: Path, running: list[Running], *, outlives: bool) -> Running:
    """Write a site's configuration, start its router, wait until it is ready."""
    config = folder / f"site-{name.lower()}.conf"
    config.write_text(text)
    router = Running(
        f"site {name}", [BIN / "vanrouter", "-c", config], folder / f"site-{name.lower()}.log", outlives=outlives
    )
    running.append(router)
    router.wait_for(r"SERVER \(info\) Operational")
    return router


def port_of(router: Running, listener: str) -> int:
    """Return the port that the system gave to a listener."""
    return int(router.wait_for(rf"Listening on 127\.0\.0\.1:(\d+) \({listener}\)")[1])


def fetch(port: int, path: str) -> bytes:
    """Fetch one document, on a connection of its own."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=DEADLINE_S) as answer:
        return bytes(answer.read())


def use_service(port: int, folder: Path) -> str:
    """Fetch what the service has, several at a time; return a line about it."""
    begun = time.monotonic()
    failures: queue.SimpleQueue[Exception] = queue.SimpleQueue()

    def one() -> None:
        try:
            for _ in range(PAGES // AT_ONCE):
                if not fetch(port, "index.html").startswith(b"<p>Hello"):
                    raise DemoError("it is another page")
        except (OSError, DemoError) as error:
            failures.put(error)

    threads = [threading.Thread(target=one) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not failures.empty():
        raise DemoError(f"a page did not come through: {failures.get()}")
    data = fetch(port, "big.bin")
    expected = hashlib.sha256((folder / "www" / "big.bin").read_bytes()).hexdigest()
    if hashlib.sha256(data).hexdigest() != expected:
        raise DemoError("the large file came through altered")
    spent_s = time.monotonic() - begun
    return f"{PAGES + 1} flows, {len(data):,} bytes in the largest (SHA-256 checked), in {spent_s:.2f} s"


def ask(port: int, what: str) -> list[str]:
    """Return what the operator's tool prints about a site."""
    command = [BIN / "van", "stat", "--bus", f"127.0.0.1:{port}", what]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if result.returncode:
        raise DemoError(f"van stat {what} failed: {result.stderr.strip()}")
    return result.stdout.rstrip().splitlines()


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def demonstrate(folder: Path, running: list[Running], *, keep: bool) -> None:
    """Run the story; what it starts is put into `running`."""
    make_certificates(folder, ["site-a", "site-b"])
    service, web = start_service(folder, running, outlives=keep)
    say(f"service   HTTP at 127.0.0.1:{web}, known to site B only            pid {service.process.pid}")
    site_a = start_site("A", SITE_A.format(folder=folder), folder, running, outlives=keep)
    neighbours, amqp_a = port_of(site_a, "neighbours"), port_of(site_a, "amqp")
    say(f"site A    router, listens for neighbours on 127.0.0.1:{neighbours}         pid {site_a.process.pid}")
    text_b = SITE_B.format(folder=folder, neighbours=neighbours, web=web)
    site_b = start_site("B", text_b, folder, running, outlives=keep)
    amqp_b = port_of(site_b, "amqp")
    say(f"site B    router, connects to site A by mutual TLS              pid {site_b.process.pid}")
    link = site_a.wait_for(r"Connection Opened: dir=in .*encrypted=(\S+) auth=(\S+) .*container_id=B")
    entry = port_of(site_a, "web")
    say(f"route     127.0.0.1:{entry} -> site A -> {link[1]}, {link[2]} -> site B -> 127.0.0.1:{web}")
    say(f"traffic   {use_service(entry, folder)}")
    for what in ("routers", "services"):
        say(f"\n$ van stat {what}      # at site A")
        say("\n".join(ask(amqp_a, what)))
    say("")
    if keep:
        pids = " ".join(str(program.process.pid) for program in running)
        say("still running; try:")
        say(f"  curl http://127.0.0.1:{entry}/")
        for name, port in (("A", amqp_a), ("B", amqp_b)):
            say(f"  {BIN}/van stat --bus 127.0.0.1:{port} connections      # site {name}")
        say(f"  less {folder}/site-a.log {folder}/site-b.log {folder}/site-a.conf")
        say(f"  kill {pids} && rm -r {folder}      # the end")


def main() -> int:
    """Return 0 when everything came true."""
    keep = os.environ.get("KEEP", "") not in ("", "0", "no")
    folder = Path(tempfile.mkdtemp(prefix="vanrouter-demo-"))
    running: list[Running] = []
    try:
        demonstrate(folder, running, keep=keep)
        if keep:
            running.clear()
            return 0
        codes = {program.name: program.stop() for program in reversed(running) if program.name.startswith("site")}
        if any(codes.values()):
            raise DemoError(f"a router did not end cleanly: {codes}")
        say("done      both routers stopped cleanly; `make demo KEEP=1` leaves them running")
    except (DemoError, OSError) as error:
        # A link that does not come up is told of by one site and caused by the other: both are asked.
        print(f"demo: {error}", file=sys.stderr)
        for program in running:
            for line in program.complaints():
                print(f"demo: {program.name}: {line}", file=sys.stderr)
        print(f"demo: logs and configurations stay in {folder}", file=sys.stderr)
        keep = True
        return 1
    finally:
        for program in reversed(running):
            with contextlib.suppress(DemoError):
                program.stop()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
