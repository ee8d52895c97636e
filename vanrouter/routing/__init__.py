"""The routing protocol as pure logic that is told the time: no sockets, no clock, no Proton. Layer: 2 (errors, ids)."""
