"""The programs `vanrouter` (the daemon) and `van` (the operator's tool): the only place that prints. Layer: 6."""
