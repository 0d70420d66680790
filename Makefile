# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Model servers and rivals stay out of the project's own environment.
SERVERS ?= .venv-servers
BENCH  ?= .venv-bench
FUZZ   ?= .venv-fuzz
AUDIT  ?= .venv-audit
PLUGIN ?= .venv-plugin
RUNS   ?= 20000
# Test processes: one a core, at most four (each holds torch). What the fast tier leaves out: the marks in pyproject.toml.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile
FAST   := not (kill or fault or coverage or memory or browser or servers or ray)

.PHONY: demo test test-fast check plugin servers fuzz bench power reproduce-smoke lock audit-deps format clean

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c requirements.lock -e ".[dev]"
	touch $@

demo: $(STAMP)            ## install, train a small target on digits, audit it with six attacks, write a report
	$(BIN)/labelleaks demo

test: $(STAMP)            ## the whole test suite
	$(PYTEST)

test-fast: $(STAMP)       ## for while you work: without kills, failing services, simulated coverage, browser, servers, Ray
	$(PYTEST) -m "$(FAST)"

check: $(STAMP)           ## what CI runs before the tests: lint, format, strict types (layering is a test)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/repository/test_layering.py

plugin: $(PLUGIN)/.installed  ## labelleaks and examples/plugin, installed beside each other: audits by spec, here and on Ray
	cd examples/plugin && $(abspath $(PLUGIN))/bin/python -m pytest
	$(PLUGIN)/bin/python -m pytest tests/repository/test_plugins.py

# Both as packages, not editable; what they need comes from the project's environment.
$(PLUGIN)/.installed: $(STAMP) $(shell find src examples/plugin/src -name '*.py') examples/plugin/pyproject.toml
	rm -rf $(PLUGIN)
	$(BIN)/python -m venv $(PLUGIN)
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
	  > "$$($(PLUGIN)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/project.pth"
	$(PLUGIN)/bin/python -m pip install -q --no-deps . ./examples/plugin
	touch $@

servers: $(foreach name,mlserver mlflow litserve bentoml,$(SERVERS)/$(name)/.installed)  ## MLServer, MLflow, FastAPI, LitServe and BentoML, for tests/targets/http/test_servers.py

$(SERVERS)/%/.installed: tests/servers/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --prefer-binary -r $<
	touch $@

fuzz: $(FUZZ)/.installed   ## whatever is read from strangers, guided by coverage (atheris); RUNS=20000 of each
	$(FUZZ)/bin/python -m fuzz --runs $(RUNS)

$(FUZZ)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/python -m pip install -q -c requirements.lock -e ".[tables,http]" atheris
	touch $@

bench: $(BENCH)/.installed  ## accuracy and overhead of the boundary search, next to ART and foolbox
	$(BENCH)/bin/python -m benchmarks.overhead
	$(BENCH)/bin/python -m benchmarks.boundary_accuracy

power: $(BENCH)/.installed  ## the leaderboard: what is missing of it (hours from nothing; ARGS="--only cifar10/0 --attacks guided")
	$(BENCH)/bin/python -m benchmarks.power $(ARGS)

reproduce-smoke: $(STAMP)  ## the whole experiment grid on tiny settings, in runs/reproduce-smoke
	$(BIN)/labelleaks reproduce label-leaks --profile smoke --store runs/reproduce-smoke/store --out runs/reproduce-smoke

$(BENCH)/.installed: pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install -q -c constraints.txt -e . -r benchmarks/requirements.txt
	touch $@

lock:                     ## resolve every version that CI installs into requirements.lock; installs nothing
	$(PYTHON) .ci/lock.py

audit-deps:               ## known vulnerabilities of the locked versions, from an online database; fails where it knows nothing of one
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install -q pip-audit
	$(AUDIT)/bin/python -m pip_audit --strict --requirement requirements.lock --no-deps --disable-pip

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PLUGIN) $(BENCH) $(FUZZ) $(AUDIT) $(SERVERS) runs .mypy_cache .ruff_cache
