"""10,000 messages that nobody should send among 100,000 good ones: the test of the same name at its full size.

    python -m tests.benchmarks.fuzz [--output tests/benchmarks/fuzz.md]

Fails if the worker stops, if a bad message is not in the dead-letter topic as it came, or if the good ones bring other
alerts than they do alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
import uuid
from datetime import date
from pathlib import Path

from stream_detector.local import running
from tests.integration.test_fuzz import run


def main() -> None:
    """Run it, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--good", type=int, default=100_400, help="a few less are sent: some sensors fall silent")
    parser.add_argument("--bad", type=int, default=10_000)
    args = parser.parse_args()
    begin = time.monotonic()
    with running() as servers, tempfile.TemporaryDirectory() as directory:
        topic = f"fuzz-{uuid.uuid4().hex[:8]}"
        mixed, reasons, alerts = run(servers.kafka, servers.redis, topic, Path(directory), args.good, args.bad)
    lines = [
        "# Bad messages among good ones",
        "",
        f"`python -m tests.benchmarks.fuzz --output tests/benchmarks/fuzz.md`, {date.today()}, "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"{time.monotonic() - begin:.0f} s.",
        "",
        f"{len(mixed.bad):,} bad messages among {len(mixed.stream.messages):,} good ones. The worker did not stop; all "
        f"bad ones are in the dead-letter topic, byte for byte and in order; the {alerts:,} alerts are those that the "
        "good ones bring alone.",
        "",
        "| reason | dead letters |",
        "| --- | ---: |",
        *(f"| {reason} | {count:,} |" for reason, count in sorted(reasons.items(), key=lambda one: -one[1])),
    ]
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
