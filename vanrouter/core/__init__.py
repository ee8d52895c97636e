"""Address table, links, deliveries and streams, choice of destination. Layer: 3 (engine, net, routing)."""
