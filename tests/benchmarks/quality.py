"""How well the models find what people labelled, beside the yardsticks that any model must beat.

    python tests/benchmarks/quality.py DATA --output tests/benchmarks/quality.md [--kept DIR] [--jobs 2]
    python tests/benchmarks/quality.py DATA --train none --output tests/benchmarks/zero_shot.md

DATA holds the labelled sets: nab/, series/touchstone/ and series/smd/. Runs `stream-detector evaluate` on each and puts
its pages together. What is kept in DIR is not computed again, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("stream-detector")
SETS = {"nab": ("nab", "nab"), "touchstone": ("series/touchstone", "csv"), "smd": ("series/smd", "csv")}
"""Where each set lies, and its format."""
HEAD = """\
# Quality of detection

`python tests/benchmarks/quality.py DATA{options}`; every number comes from that command.
NAB: the Numenta Anomaly Benchmark. touchstone: ten sets of the streaming benchmark of that name. smd: four machines of
the Server Machine Dataset. All models have one setting; nothing is tuned to a series.
"""


def main() -> None:
    """Evaluate every set and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("tests/benchmarks/quality.md"))
    parser.add_argument("--kept", type=Path, default=Path("build/quality"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--models", default="multiscale,encoder")
    parser.add_argument("--sets", default=",".join(SETS), help="of these, in this order")
    parser.add_argument("--train", default="prefix", help="as `evaluate` has it: prefix or none")
    parser.add_argument("--no-baselines", action="store_true", help="the named models alone")
    given = parser.parse_args()
    pages = []
    for name in given.sets.split(","):
        place, form = SETS[name]
        kept = given.kept / name
        arguments = ["--format", form, "--models", given.models, "--jobs", str(given.jobs), "--train", given.train]
        arguments += [] if given.no_baselines else ["--baselines"]
        done = subprocess.run([COMMAND, "evaluate", given.data / place, *arguments, "--output", kept], check=False)
        if not (kept / "results.md").exists() or done.returncode not in (0, 1):  # 1: the page names what failed
            sys.exit(done.returncode or 1)
        page = (kept / "results.md").read_text(encoding="utf-8")
        pages.append(page.replace(f"# {name}\n", f"## {name}\n", 1))
    options = "".join(f" {word}" for word in sys.argv[2:] if word not in ("--kept", str(given.kept)))
    given.output.write_text("\n".join([HEAD.format(options=options), *pages]), encoding="utf-8")


if __name__ == "__main__":
    main()
