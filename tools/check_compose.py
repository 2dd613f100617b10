"""A check of a compose file: ``python tools/check_compose.py SCHEMA COMPOSE_FILE``.

The schema is the published one of the compose specification. Every path that the file names must be there, but for
secrets, which people make themselves.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator


def faults(schema: Path, file: Path) -> list[str]:
    """Return the faults of a compose file, one line each."""
    rules = json.loads(schema.read_text("utf-8"))
    # Newer than the schema that Debian has: https://github.com/compose-spec/compose-spec, "name".
    rules["properties"].setdefault("name", {"type": "string"})
    compose: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    found = [f"{'.'.join(map(str, each.path))}: {each.message}" for each in Draft7Validator(rules).iter_errors(compose)]
    for name, service in compose["services"].items():
        build = service.get("build")
        paths = [volume.partition(":")[0] for volume in service.get("volumes", ())]
        if build:
            paths += [build["context"], f"{build['context']}/{build['dockerfile']}"]
        found += [f"{name}: {each} is not there" for each in paths if "/" in each and not (file.parent / each).exists()]
        named = {each for each in paths if "/" not in each}
        found += [f"{name}: no volume {each}" for each in named - set(compose["volumes"])]
        found += [f"{name}: no secret {each}" for each in set(service.get("secrets", ())) - set(compose["secrets"])]
        found += [
            f"{name}: no service {each}" for each in set(service.get("depends_on", ())) - set(compose["services"])
        ]
    return found


def main(schema: str, file: str) -> int:
    found = faults(Path(schema), Path(file))
    for each in found:
        print(each)
    print(f"{file}: {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
