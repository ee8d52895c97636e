"""Schema, entities, management agent, configuration files, the client. Layer: 2 (errors, ids)."""
