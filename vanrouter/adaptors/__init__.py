"""One protocol each, never each other: AMQP clients, TCP services, HTTP. Layer: 4 (core, engine, net)."""
