"""The image of contrib/docker/Dockerfile, made and run without Docker: ``make test-image``, as root on Debian.

Each stage is a folder, which begins as Debian's smallest system (debootstrap). The steps of the Dockerfile are run in
it by chroot. The image then runs as Docker would run it: with its own user and environment, a read-only root, a network
of its own, and no capability. An instruction that this file does not know is an error.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "contrib" / "docker" / "Dockerfile"
MIRROR = "http://deb.debian.org/debian"
BUILD_CONTEXT = ("stackit", "twisted", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
UNUSED = {"EXPOSE", "STOPSIGNAL"}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Image:
    """One stage: its folder, and what its instructions say of how it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self.directory = "/"
        self.user = "0:0"
        self.volumes: list[str] = []
        self.health: list[str] = []
        self.entrypoint: list[str] = []


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, each with what it is given, in their order."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined]


def build(work: Path) -> Image:
    """Run all instructions, and return the last stage."""
    stages: dict[str, Image] = {}
    arguments: dict[str, str] = {}
    image = Image(work / "none")
    for instruction, given in instructions(DOCKERFILE.read_text("utf-8")):
        print(f"-- {instruction} {given[:100]}", flush=True)
        rest = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], given) if instruction == "FROM" else given
        if instruction == "ARG":
            argument, _, value = rest.partition("=")
            arguments[argument] = value
        elif instruction == "FROM":
            name, _, stage = rest.partition(" AS ")
            image = Image(work / f"stage{len(stages)}")
            stages[stage or "last"] = image
            base = debian(work, name.removeprefix("debian:").removesuffix("-slim"))
            run(["cp", "-a", str(base), str(image.folder)])
        elif instruction == "ENV":
            argument, _, value = rest.partition("=")
            image.environ[argument] = value
        elif instruction == "RUN":
            run_step(image, rest)
        elif instruction == "COPY":
            copy(stages, image, rest.split())
        elif instruction == "WORKDIR":
            image.directory = rest
        elif instruction == "USER":
            image.user = rest
        elif instruction == "VOLUME":
            image.volumes = json.loads(rest)
        elif instruction == "HEALTHCHECK":
            image.health = json.loads(rest.partition("CMD ")[2])
        elif instruction == "ENTRYPOINT":
            image.entrypoint = json.loads(rest)
        elif instruction not in UNUSED:
            sys.exit(f"tools/image.py does not know {instruction}")
    return image


def debian(work: Path, suite: str) -> Path:
    """Return a folder with Debian's smallest system, made at the first call."""
    folder = work / suite
    if not folder.exists():
        run(
            ["debootstrap", "--variant=minbase", suite, str(work / "unfinished"), MIRROR],
            quiet=work / "debootstrap.log",
        )
        (work / "unfinished").rename(folder)
    return folder


def run_step(image: Image, command: str) -> None:
    """Run a command as RUN does, with the names and the certificates of this machine, as a builder has them."""
    lent = image.folder / "tmp" / "certificates.crt"
    shutil.copy(CERTIFICATES, lent)
    environ = {**image.environ, "PIP_CERT": "/tmp/certificates.crt", "DEBIAN_FRONTEND": "noninteractive"}  # noqa: S108 - in the folder
    environ |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    words = shlex.join(
        ["env", "-i", *(f"{name}={value}" for name, value in environ.items()), "/bin/sh", "-ec", command]
    )
    folder = shlex.quote(str(image.folder))
    script = (
        f"cd {folder} && cp -L /etc/resolv.conf etc/resolv.conf && mount -t proc proc proc && mount --rbind /dev dev"
        f" && exec chroot . {words}"
    )
    run(["unshare", "--mount", "--pid", "--fork", "sh", "-ec", script])
    lent.unlink()


def copy(stages: dict[str, Image], image: Image, words: list[str]) -> None:
    """Copy as COPY does: the build context, or from another stage. Times are kept, as they are there."""
    target = image.folder / words[-1].lstrip("/")
    if words[0].startswith("--from="):
        source = stages[words[0].removeprefix("--from=")].folder / words[1].lstrip("/")
        run(["cp", "-a", str(source), str(target)])
        return
    target.mkdir(parents=True)
    for name in BUILD_CONTEXT:
        run(["cp", "-a", str(ROOT / name), str(target)])
    for cache in [*target.rglob("__pycache__"), *target.rglob("*.egg-info")]:
        shutil.rmtree(cache)
    (target / "twisted" / "plugins" / "dropin.cache").unlink(missing_ok=True)


TRIAL = r"""
ip link set lo up
mount --rbind {folder} {folder}
cd {folder}
mount -o remount,bind,ro .
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=0700,uid=10001,gid=10001 tmpfs .{volume}
mount -t proc proc proc
mount --rbind /dev dev
secret=STACKIT_GITHUB_WEBHOOK_SECRET=of-this-trial-alone
inside=(chroot --userspec={user} --groups= . env -i {environ} "$secret" /bin/sh -c 'cd {directory} && exec "$@"' sh)
"${{inside[@]}}" setpriv --no-new-privs -- {entrypoint} > {log} 2>&1 &
program=$!
trap 'cat {log}' EXIT
for try in $(seq 240); do "${{inside[@]}}" {health} 2> /dev/null && healthy=yes && break; sleep 0.5; done
[ "${{healthy:-}}" ] || {{ echo "the health check never passed"; exit 1; }}
"${{inside[@]}}" stackit send push --repo octo/widget
"${{inside[@]}}" stackit deliveries
"${{inside[@]}}" git --version
"${{inside[@]}}" ssh -V
for each in "Name: tini" "NoNewPrivs: 1" "CapEff: 0000000000000000" "Uid: 10001 10001 10001 10001"; do
  tr '\t' ' ' < "proc/$program/status" | grep -q "^$each\$" || {{ echo "the program has not $each"; exit 1; }}
done
for each in / /opt/stackit /etc/stackit; do
  ! "${{inside[@]}}" touch "$each/new" 2> /dev/null || {{ echo "$each can be written"; exit 1; }}
done
kill -TERM "$program"
wait "$program"
"""


def try_out(image: Image, work: Path) -> None:
    """Run the image, ask it for its health, send a delivery, and stop it."""
    (volume,) = image.volumes
    script = TRIAL.format(
        folder=shlex.quote(str(image.folder)),
        volume=volume,
        user=image.user,
        environ=shlex.join(f"{name}={value}" for name, value in image.environ.items()),
        directory=image.directory,
        entrypoint=shlex.join(image.entrypoint),
        health=shlex.join(image.health),
        log=shlex.quote(str(work / "stackit.log")),
    )
    run(["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "bash", "-euc", script])


def run(command: list[str], quiet: Path | None = None) -> None:
    """Run a command; its failure is the end."""
    output = quiet.open("wb") if quiet else None
    done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT if quiet else None, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command)[:200]} ended with status {done.returncode}{f': see {quiet}' if quiet else ''}")


def main(folder: str) -> None:
    if os.geteuid() != 0:
        sys.exit("make test-image makes folders that are whole systems, which only root can")
    work = Path(folder).resolve()
    work.mkdir(parents=True, exist_ok=True)
    for old in work.glob("stage*"):
        shutil.rmtree(old)
    image = build(work)
    try_out(image, work)
    for made in work.glob("stage*"):
        shutil.rmtree(made)
    print("the image builds, is healthy, takes a delivery and stops")


if __name__ == "__main__":
    main(sys.argv[1])
