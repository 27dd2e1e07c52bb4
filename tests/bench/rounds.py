"""Runs inside an allocation, with the node's own Python: time commands that take turns.

The arguments are a JSON list of [name, command line], the number of runs, and that of warm-up runs
before; prints a JSON object of name to raw results: seconds of each whole process, and the numbers
that it prints with their unit in front of a line: a rate in GB/s, or milliseconds.
"""

import json
import re
import subprocess
import sys
import time

_RATE = re.compile(r"^([0-9.]+) (?:GB/s|ms)", re.MULTILINE)


def once(command: str) -> "tuple[float, float | None]":
    """Run one command to its end; its wall seconds and the number that it printed."""
    start = time.perf_counter()
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"`{command}` ended with {done.returncode}: {done.stderr.strip()[-800:]}")
    rate = _RATE.search(done.stdout)
    return seconds, float(rate[1]) if rate else None


def main() -> None:
    """Warm up, then let all take turns."""
    commands, runs, warm = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    results = {name: {"seconds": [], "rates": []} for name, _ in commands}
    for number in range(warm + runs):
        for name, command in commands:
            seconds, rate = once(command)
            if number < warm:
                continue
            results[name]["seconds"].append(round(seconds, 4))
            if rate is not None:
                results[name]["rates"].append(rate)
    json.dump(results, sys.stdout)


main()
