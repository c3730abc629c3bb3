"""The alert rules under Prometheus' own tool: their syntax, and the tests that fire each and keep each quiet.

    python -m tests.benchmarks.rules [--output tests/benchmarks/rules.md] [--image prom/prometheus:v3.1.0]

Runs `promtool` from PATH, or else from a container of the image. Fails if promtool does. What plain pytest checks
without it, the names of the numbers among others, is in tests/unit/test_deploy.py.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import yaml

HERE = Path(__file__).parents[2] / "deploy" / "prometheus"
CHECKS = (("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml"))
IMAGE = "prom/prometheus:v3.1.0"


def main() -> None:
    """Run it, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown page to write")
    parser.add_argument("--image", default=IMAGE, help="where promtool is taken from if it is not on PATH")
    args = parser.parse_args()
    promtool = _promtool(args.image)
    version = _run([*promtool, "--version"]).partition("\n")[0]
    told = [_run([*promtool, *check]).strip() for check in CHECKS]
    tests = yaml.safe_load((HERE / "rules_test.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    fires = sum(bool(check["exp_alerts"]) for check in checks)
    lines = [
        "# The alert rules under promtool",
        "",
        f"`python -m tests.benchmarks.rules --output tests/benchmarks/rules.md`, {date.today()}, {version}.",
        "",
        f"{len(tests)} tests, {len(checks)} expectations, {fires} of them that a rule fires. All hold.",
        "",
        "```",
        *(line for text in told for line in text.splitlines() if line.strip()),
        "```",
    ]
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _promtool(image: str) -> list[str]:
    """How promtool is called in the rules' folder."""
    if found := shutil.which("promtool"):
        return [found]
    if not (docker := shutil.which("docker")):
        sys.exit("neither promtool nor docker is on PATH: install one of them")
    return [docker, "run", "--rm", "-v", f"{HERE}:/rules:ro", "-w", "/rules", "--entrypoint", "promtool", image]


def _run(command: list[str]) -> str:
    """What it prints; ends with its words and its exit code where it fails."""
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        sys.exit(done.returncode)
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
