"""The event loop, timers, name resolution, listeners, connectors. Layer: 2 (errors, ids)."""
