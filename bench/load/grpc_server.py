"""A gRPC service of unary calls that sends back what it gets.

Prints {"port": N} and serves until it is ended.
"""

from __future__ import annotations

import json
from concurrent import futures
from typing import Any

import grpc


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """One method, whatever it is called."""

    def service(self, _details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda message, _context: message, bytes, bytes)


def main() -> None:
    """Serve."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
