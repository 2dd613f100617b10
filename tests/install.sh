#!/usr/bin/env bash
# Install a wheel or a source distribution into a new virtual environment, away from the sources, and try it.
# With TEST_PYTHON, a Python that has pytest: the first week of an operator, too (tests/end_to_end/test_operators_week.py).
set -euo pipefail
sources=$(dirname "$(dirname "$(realpath "$0")")")
dist=$(realpath "$1")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check "$dist"
venv/bin/pip check
venv/bin/python -c 'import stackit; print("stackit", stackit.__version__)'
venv/bin/stackit --help > help
venv/bin/python -m stackit --help > help
venv/bin/twistd --help | grep stackit
timeout --foreground --signal INT 60 venv/bin/twistd -n --pidfile= stackit --listen tcp:0:interface=127.0.0.1 \
  --admin-listen tcp:0:interface=127.0.0.1 --state-dir state > log &
for _ in $(seq 300); do
  url=$(sed -n 's/.*public side on //p' log)
  venv/bin/python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/healthz")' "$url" 2> /dev/null && break
  sleep 0.1
done
cat log
admin=$(sed -n 's/.*admin side on //p' log)
venv/bin/python - "$admin" <<'PYTHON'
import re, sys, urllib.request
page = urllib.request.urlopen(sys.argv[1] + "/").read().decode()
assert "<h1>Overview</h1>" in page, page
for path in re.findall(r'"(/static/[^"]+)"', page):
    assert urllib.request.urlopen(sys.argv[1] + path).read(), path
PYTHON
kill -INT $!
wait $! || { echo "stackit ended with status $?"; cat log; exit 1; }
if [ -n "${TEST_PYTHON:-}" ]; then
  cd "$sources"
  STACKIT_PROGRAMS=$place/venv/bin \
    STACKIT_UPGRADE="$place/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall $dist" \
    "$TEST_PYTHON" -m pytest -q tests/end_to_end/test_operators_week.py
fi
echo "$(basename "$dist") works"
