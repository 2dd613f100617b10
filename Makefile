# Every target sets up what it needs in .venv, and is quick the second time.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# A file of tests stays together, for the fixtures that its tests share. Many wait for the disk, or for time to pass: one
# process more than there are cores keeps these at work.
PARALLEL ?= --numprocesses $(shell cores=$$(nproc); echo $$((cores < 4 ? cores + 1 : 4))) --dist loadfile

SOURCES := setup.py pyproject.toml $(shell find stackit twisted -name '*.py')

.PHONY: help demo test test-shapes test-alerts test-browser screenshots lint check coverage dist format soak soak-fleet test-lowest bench bench-receive bench-visible bench-sweep bench-burst bench-crowded bench-clone bench-growth bench-day bench-discovery bench-live bench-pages bench-fleet clean

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: $(VENV)/.test  ## show stackit at work beside a pretend GitHub; Ctrl-C ends it
	@$(BIN)/twistd -n --pidfile= stackit --demo

test: $(VENV)/.test  ## run the tests, or those of TESTS=
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

test-shapes: $(VENV)/.test $(VENV)/.shapes  ## hold every event that GitHub publishes against stackit; needs npm
	$(BIN)/python -m pytest tests/github/published_shapes.py

test-alerts: $(VENV)/.test $(VENV)/bin/promtool  ## try when the alerts of contrib/prometheus fire; needs promtool
	$(BIN)/promtool check config contrib/prometheus/prometheus.yml
	$(BIN)/promtool check config --syntax-only contrib/docker/prometheus.yml
	$(BIN)/promtool check rules contrib/prometheus/rules.yml contrib/prometheus/fleet.yml
	$(BIN)/promtool test rules contrib/prometheus/rules_test.yml contrib/prometheus/fleet_test.yml
	$(BIN)/python -m pytest tests/end_to_end/alerts_of_an_install.py

.PHONY: test-dashboard test-compose test-image docs release

test-dashboard: $(VENV)/.test $(VENV)/bin/promtool  ## ask a Prometheus each query of contrib/grafana; needs apt, or prometheus
	$(BIN)/python -m pytest tests/end_to_end/dashboard_of_an_install.py

test-compose: $(VENV)/.check $(VENV)/compose_spec.json  ## hold contrib/docker/compose.yaml against the published schema; needs apt
	$(BIN)/python tools/check_compose.py $(VENV)/compose_spec.json contrib/docker/compose.yaml

test-image: $(VENV)/.venv  ## run the steps of contrib/docker/Dockerfile in a folder, and the image; needs root and apt
	@command -v debootstrap > /dev/null || { apt-get update && apt-get install --yes --no-install-recommends debootstrap; } > /dev/null \
	  || { echo "a small Debian is made by debootstrap: apt install debootstrap"; exit 1; }
	$(BIN)/python tools/image.py $(VENV)/image

docs: $(VENV)/.docs  ## make the documentation a site in site/, and check its links
	@rm -rf site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python tools/check_site.py site

release: $(VENV)/.check  ## commit and tag VERSION=x.y.z, built and tried; ARGS=--dry-run leaves everything as it is
	$(BIN)/python tools/release.py $(VERSION) $(ARGS)

test-browser: $(VENV)/.test $(VENV)/.browser  ## use every page in a real browser; needs Debian's chromium
	$(BIN)/python -m pytest $(wildcard tests/browser/*_in_a_browser.py)

screenshots: $(VENV)/.test $(VENV)/.browser  ## take the pictures of docs/images again
	$(BIN)/python -m pytest tests/browser/screenshots.py

lint: $(VENV)/.check  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy stackit tests benchmarks
	$(BIN)/mypy tools contrib/grafana

check: lint  ## ruff, mypy --strict and the tests: before every commit
	$(BIN)/python -m pytest $(PARALLEL)

coverage: $(VENV)/.check  ## run the tests and show the lines and branches that none of them reaches
	@rm -rf .coverage && mkdir .coverage
	$(BIN)/coverage run -m pytest
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report

dist: $(VENV)/.check  ## build the wheel and the source distribution, and install and try both
	@rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	tests/install.sh dist/*.tar.gz
	TEST_PYTHON=$(abspath $(BIN))/python tests/install.sh dist/*.whl

MINUTES ?= 60

soak: $(VENV)/.test  ## good and hostile load with faults injected at random, for MINUTES=60: nothing lost, nothing grows
	PYTHONPATH=tests/support $(BIN)/python tests/soak/soak.py --minutes $(MINUTES)

soak-fleet: $(VENV)/.test  ## three nodes and their PostgreSQL, with faults injected at random, for MINUTES=60
	PYTHONPATH=tests/support $(BIN)/python tests/soak/fleet_soak.py --minutes $(MINUTES) $(ARGS)

BENCHMARKS := receive visible sweep burst crowded clone growth discovery live fleet day

bench: .venv-bench/.bench  ## measure stackit beside its peers, all of it; takes a while
	@failed=; for each in $(BENCHMARKS); do \
	  echo; echo "== make bench-$$each"; $(MAKE) --no-print-directory bench-$$each ARGS= || failed="$$failed $$each"; \
	done; cd benchmarks && ../.venv-bench/bin/python summary.py --failed $$failed

bench-receive: .venv-bench/.bench  ## deliveries per second; for all peers: apt install golang-go webhook nodejs npm
	cd benchmarks && ../.venv-bench/bin/python receive.py $(ARGS)

bench-visible: .venv-bench/.bench  ## from a push to its commit in the mirror
	cd benchmarks && ../.venv-bench/bin/python visible.py $(ARGS)

bench-sweep: .venv-bench/.bench  ## what an unchanged mirror costs
	cd benchmarks && ../.venv-bench/bin/python sweep.py $(ARGS)

bench-burst: .venv-bench/.bench  ## 10,000 pushes over 500 repositories
	cd benchmarks && ../.venv-bench/bin/python burst.py $(ARGS)

bench-crowded: .venv-bench/.bench  ## a push beside 40 remotes that hang and 4 clones without end
	cd benchmarks && ../.venv-bench/bin/python crowded.py $(ARGS)

bench-clone: .venv-bench/.bench  ## the first clone of a repository, by the number of its refs
	cd benchmarks && ../.venv-bench/bin/python clone.py $(ARGS)

bench-growth: .venv-bench/.bench  ## memory and start by the number of repositories
	cd benchmarks && ../.venv-bench/bin/python growth.py $(ARGS)

bench-discovery: .venv-bench/.bench  ## answers to deliveries while 10,000 repositories are discovered
	cd benchmarks && ../.venv-bench/bin/python discovery.py $(ARGS)

bench-live: .venv-bench/.bench  ## what 200 live clients cost the receiver
	cd benchmarks && ../.venv-bench/bin/python live.py $(ARGS)

bench-pages: .venv-bench/.bench  ## how quickly the pages come beside 10,000 repositories and 100,000 deliveries
	cd benchmarks && ../.venv-bench/bin/python pages.py $(ARGS)

bench-day: .venv-bench/.bench  ## 24 hours on a simulated clock: does anything grow
	cd benchmarks && ../.venv-bench/bin/python day.py $(ARGS)

EVENTS ?= 1000000

bench-fleet: .venv-bench/.bench  ## one, two and four receivers on one PostgreSQL, faults, and a million events (EVENTS=0: none)
	cd benchmarks && ../.venv-bench/bin/python fleet.py --events $(EVENTS) $(ARGS)

.venv-bench/.bench: $(SOURCES)
	@$(MAKE) --no-print-directory VENV=.venv-bench .venv-bench/.venv
	@echo "setting up .venv-bench ..."
	@rm -rf build
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check '.[bench]' \
	  || { .venv-bench/bin/python -m pip install --quiet --disable-pip-version-check . \
	  && echo "the peers from PyPI cannot be installed here, and will be skipped"; }
	@touch $@

format: $(VENV)/.check  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-lowest:  ## run the tests with the oldest dependencies that pyproject.toml allows
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=tests/lowest.txt

clean:  ## remove everything that make has set up
	rm -rf site .venv .venv-lowest .venv-bench .bench build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

CONSTRAINTS ?= tests/tools.txt

# One marker for each set of packages, made again when what it was made from changes.

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "stackit needs Python 3.11 or newer; this is $$($(PYTHON) --version). Say PYTHON=python3.11"; exit 1; }
	@command -v git > /dev/null || { echo "stackit needs git: apt install git"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "this Python cannot make a virtual environment: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools
	@touch $@

$(VENV)/.test $(VENV)/.check $(VENV)/.docs: $(VENV)/.%: $(VENV)/.venv setup.py pyproject.toml $(CONSTRAINTS)
	@echo "setting up $(VENV) ($*) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %) --editable '.[$*,clients,api]'
	@touch $@

# Debian's packages are only looked into: installed, they would start a Prometheus.
$(VENV)/bin/promtool: $(VENV)/.venv
	@if command -v promtool > /dev/null && command -v prometheus > /dev/null; then \
	  ln -sf "$$(command -v promtool)" "$$(command -v prometheus)" $(BIN)/; else \
	  rm -rf $(VENV)/prometheus && mkdir $(VENV)/prometheus && cd $(VENV)/prometheus \
	  && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } > apt.log 2>&1 \
	  && dpkg-deb --extract prometheus_*.deb package && mv package/usr/bin/prom* . \
	  && rm -r package prometheus_*.deb && ln -sf ../prometheus/promtool ../prometheus/prometheus ../bin/; \
	fi || { echo "promtool tries the alerts: apt install prometheus, or put it on PATH"; exit 1; }

$(VENV)/compose_spec.json: $(VENV)/.venv
	@rm -rf $(VENV)/compose && mkdir $(VENV)/compose && cd $(VENV)/compose \
	  && { apt-get download docker-compose || { apt-get update && apt-get download docker-compose; }; } > apt.log 2>&1 \
	  && dpkg-deb --extract docker-compose_*.deb . && cp usr/lib/python3/dist-packages/compose/config/compose_spec.json .. \
	  || { echo "the schema is in Debian's package docker-compose, which apt-get could not download"; exit 1; }

$(VENV)/.browser: $(VENV)/.test
	@command -v chromium > /dev/null || { echo "installing chromium ..."; \
	  { apt-get update && apt-get install --yes --no-install-recommends chromium fonts-dejavu-core; } > $(VENV)/chromium.log 2>&1; } \
	  || { echo "the pages are tried in Debian's browser: apt install chromium"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %) --editable '.[test,browser]'
	@touch $@

$(VENV)/.shapes: $(VENV)/.venv tests/github/published_shapes.txt
	@command -v npm > /dev/null || { echo "what GitHub publishes comes in packages of npm: apt install npm"; exit 1; }
	@rm -rf $(VENV)/shapes && mkdir $(VENV)/shapes
	@cd $(VENV)/shapes && npm pack --silent $$(cut -d' ' -f1 $(CURDIR)/tests/github/published_shapes.txt) > /dev/null \
	  || { echo "npm could not fetch what tests/github/published_shapes.txt names: npm pack says why"; exit 1; }
	@touch $@
