"""The only package of the daemon that touches Qpid Proton. Layer: 2 (errors, ids)."""
