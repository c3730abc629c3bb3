"""How fast the worker is on this machine, held against the bare limits of the same run.

`plan` says what is measured, `load` makes the messages, `place` topics and keys of a run. `throughput` lets the worker
and bare loops take turns (`bare`), `stages` times its parts, `alone` runs the parts that need no broker, `delays` sends
at a pace and waits for alerts (`prepared` sends without cost). `report` is what comes out.
"""
