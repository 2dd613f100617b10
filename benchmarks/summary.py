"""The newest tables of all benchmarks, and every goal: reached, or how far."""

from __future__ import annotations

import argparse
import json
import sys

from harness import RESULTS

ORDER = ("receive", "visible", "sweep", "burst", "crowded", "clone", "growth", "discovery", "live", "fleet", "day")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failed", nargs="*", default=[], help="benchmarks that did not come to their end just now")
    failed = parser.parse_args().failed
    there = [name for name in ORDER if (RESULTS / f"{name}.md").exists()]
    for name in there:
        text = (RESULTS / f"{name}.md").read_text()
        print("\n".join(line for line in text.partition("**Goals**")[0].splitlines() if not line.startswith("![")))
    print("# Goals\n")
    for name in there:
        found = json.loads((RESULTS / f"{name}.json").read_text())
        when = f" (of {found['machine']['measured']}, an earlier run)" if name in failed else ""
        goals = (RESULTS / f"{name}.md").read_text().partition("**Goals**")[2].splitlines()
        said = [line.removeprefix("- ") for line in goals if line.startswith("- ")]
        said += [f"skipped: {peer}: {why}" for peer, why in found["skipped"].items()]
        for line in said or ["no goal"]:
            print(f"{name}{when}: {line}")
    for name in failed:
        print(f"{name}: DID NOT COME TO ITS END: see what it said above")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
