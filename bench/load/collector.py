"""A collector of records: says after a while how many flows it knows, and stays until its input ends.

python -m bench.load.collector PORT SECONDS
"""

from __future__ import annotations

import json
import sys
import threading

from vanrouter.mgmt.vanflow import RecordType
from vanrouter.mgmt.vanflow_client import Collector


def main() -> None:
    """Collect, answer, wait."""
    port, seconds = sys.argv[1:]
    with Collector(f"127.0.0.1:{port}") as collector:
        threading.Event().wait(float(seconds))
        with collector.picture() as picture:
            print(json.dumps({"flows": len(picture.live(RecordType.BIFLOW_TPORT))}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
