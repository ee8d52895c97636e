"""The composition root: builds the router from a configuration, runs it, and shuts it down. Layer: 5."""

from __future__ import annotations

from vanrouter.server.process import run

__all__ = ["run"]
