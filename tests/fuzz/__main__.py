"""Fuzzes for a while: python -m tests.fuzz --minutes 5, or one harness: --only NAME; a finding again: --input FILE."""

import argparse
import json
import sys
import time
from pathlib import Path

from mbx_deploy.errors import MbxError
from tests.fuzz import native, networks
from tests.fuzz.campaign import Outcome, complaint, find_reader, run_apart, run_cases
from tests.fuzz.readers import READERS

NAMES = (*(reader.name for reader in READERS), *networks.NAMES, *native.NAMES)


def main() -> int:
    """Return 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for all harnesses together")
    parser.add_argument("--only", action="append", choices=NAMES, help="a harness; may be given more than once")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--runs", type=int, help="cases of each harness, instead of minutes")
    parser.add_argument("--input", type=Path, help="a file to be read again, by the harness of --only")
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        outcome = run_cases(find_reader(given.child), given.seed, given.first, given.runs, given.seconds)
        print(json.dumps(outcome.to_dict()))
        return 0
    if given.input:
        return _again((given.only or [NAMES[0]])[0], given.input)
    names = given.only or NAMES
    seconds = None if given.runs is not None else 60.0 * given.minutes / len(names)
    print(f"seed {given.seed}, {len(names)} harnesses", flush=True)
    return max([_tell(run(name, given.seed, given.first, given.runs, seconds)) for name in names])


def run(name: str, seed: int, first: int, runs: int | None, seconds: float | None) -> Outcome:
    """Return the outcome of a harness."""
    if name in native.NAMES:
        return native.run(name, seed, runs, seconds)
    if name in networks.NAMES:
        return networks.run(name, seed, first, runs, seconds)
    return run_apart(name, seed, first, runs, seconds)


def _tell(outcome: Outcome) -> int:
    line = f"{outcome.harness}: {outcome.cases:,} cases, {outcome.taken:,} taken, slowest {outcome.slowest_s:.2f} s"
    print(f"{line}, {len(outcome.findings)} findings", flush=True)
    for found in outcome.findings:
        print(f"  FOUND {found.what:.300}\n    again: {found.command}")
        print("\n".join(f"    {text}" for text in found.detail.splitlines()[-12:]), flush=True)
    return 1 if outcome.findings else 0


def _again(name: str, path: Path) -> int:
    if name in native.NAMES:
        return native.again(name, path)
    if name in networks.NAMES:
        return networks.again(name, path)
    try:
        found = complaint(find_reader(name), path.absolute())
    except MbxError as error:
        print(f"refused: {error.render()}")
        return 0
    print("taken" if found is None else "\n".join(found))
    return int(found is not None)


if __name__ == "__main__":
    sys.exit(main())
