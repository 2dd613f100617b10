#!/usr/bin/env bash
# Install a wheel or a source distribution into a new virtual environment, away from the sources, and try it.
set -euo pipefail
dist=$(realpath "$1")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check "$dist"
venv/bin/pip check
venv/bin/python -c 'import stackit; print("stackit", stackit.__version__)'
venv/bin/python -m stackit --help > help
venv/bin/twistd --help | grep stackit
timeout --signal INT 60 venv/bin/twistd -n --pidfile= stackit --listen tcp:0:interface=127.0.0.1 \
  --admin-listen tcp:0:interface=127.0.0.1 --state-dir state > log &
for _ in $(seq 300); do
  grep -q 'admin side on' log && break
  sleep 0.1
done
cat log
kill -INT $! && wait $!
echo "$(basename "$dist") works"
