"""How fast is it? Each question in a file of its own, each figure with its ratio to others of the same run.

`run.py` is the driver (`make bench`, or `python -m bench --only bulk,messages --rounds 5`; `docs/benchmarks.md`), and
`rooms.py` shows where vanrouter's own time goes. The floors are `relay.py`, a bare TCP relay, and `amqp_floor.py`, one
AMQP hop without any rule. The load programs are in `load/`; what starts, measures and reports is in `harness/`.
"""
