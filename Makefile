# Two commands on a fresh machine with Python 3.11, git and make: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
PAGE := pipeline/review/page
BUILT := pipeline/review/built/app.js

TOOLS := out/tools/.installed
DOCS := out/docs/.installed
NOTEBOOKS := out/notebooks/.installed

.PHONY: demo test tests install page page-if-npm docs notebooks gallery bench lint format lock audit sbom clean

demo: install
	$(BIN)/ldct demo --out demo

test: lint tests

# Three processes, since many tests wait for servers, each with whole files: what a file's tests
# share is made once. One thread each: more threads than cores wait for each other in busy loops.
tests: install
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder

install: $(INSTALLED) page-if-npm

# The review page is the one thing that wants node; the rest goes on without it.
page-if-npm:
	@command -v npm >/dev/null && $(MAKE) --no-print-directory page || \
	    { command -v npm >/dev/null && exit 1; echo "no npm: \`ldct review\` has no page until \`make page\`"; }

page: $(BUILT)

$(BUILT): $(PAGE)/package-lock.json $(PAGE)/build.mjs $(wildcard $(PAGE)/src/*)
	cd $(PAGE) && npm ci --ignore-scripts --no-audit --no-fund && npm run build

# The site, in out/docs/site: open its index.html. Its tools are apart from the project. Strict: a page
# that the navigation lacks, and a link that leads nowhere, fail.
docs: install $(DOCS)
	PYTHONPATH=docs $(BIN)/python -m generate.build
	NO_MKDOCS_2_WARNING=1 out/docs/.venv/bin/mkdocs build --strict --quiet

$(DOCS): requirements-docs.lock
	$(PYTHON) -m venv out/docs/.venv || python3 -m venv out/docs/.venv
	out/docs/.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
	    --require-hashes --requirement requirements-docs.lock
	touch $(DOCS)

# Runs notebooks/, or those of NAMES, each from its beginning; outputs are kept nowhere.
notebooks: install $(NOTEBOOKS)
	out/notebooks/.venv/bin/python .ci/notebooks $(NAMES)

# Beside the project's packages, which it sees, and not among them.
$(NOTEBOOKS): requirements-notebooks.lock $(INSTALLED)
	$(PYTHON) -m venv out/notebooks/.venv || python3 -m venv out/notebooks/.venv
	out/notebooks/.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
	    --require-hashes --requirement requirements-notebooks.lock
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > "$$(out/notebooks/.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
	touch $(NOTEBOOKS)

# Trains what is not trained yet: about an hour of one core. DATA is for the runs on CT. Fails (5),
# once all is written, where a run does not pass its gate: no training here is meant to be short.
gallery: install
	$(BIN)/python benchmarks/restore.py --work out/restore $(if $(DATA),--data $(DATA))

# What is fast and what is not, on this machine's CPU, beside peers: tables and JSON in
# benchmarks/results. DATA is the folder of real CT. Leave the machine alone meanwhile. ingest.py gets
# no counts of files: growth.py has grown them.
bench: DATA ?= ../shared/data
bench: install
	$(BIN)/python benchmarks/peers.py --data $(DATA)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/apply.py --data $(DATA) --slices 24 --lengths 40 80
	$(BIN)/python benchmarks/growth.py --parts each --ingest 10 100 --apply 10 30
	$(BIN)/python benchmarks/ingest.py --data $(DATA) --counts

# Everything is pinned in one lock, so pip need not work out what needs what (it takes minutes), nor
# compile what nobody imports; `pip check` says if the lock is not whole. A second run finds the
# stamp newer and does nothing. torch's build for CPUs is asked of PyTorch's index where pip's own
# has none: see .ci/hash-lock.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -c 'import sys; assert sys.version_info[:2] == (3, 11), "Python 3.11 is needed: make PYTHON=/path/to/python3.11"'
	$(PIP) index versions torch 2>/dev/null | grep --quiet +cpu || more="--extra-index-url $(TORCH_INDEX)"; \
	$(PIP) install --quiet --no-deps --no-compile --require-hashes --requirement requirements.lock $$more
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	$(PIP) check
	touch $(INSTALLED)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What the project is made of, as CycloneDX: out/sbom.json.
sbom: install $(TOOLS)
	out/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file out/sbom.json $(BIN)/python

# Known vulnerabilities of what the lock pins; skips, saying so, where no advisories can be asked.
audit: $(TOOLS)
	out/tools/bin/python .ci/audit

# Hashes anew for the pins of requirements.lock; see CONTRIBUTING.md.
lock: $(TOOLS)
	out/tools/bin/python .ci/hash-lock

$(TOOLS): .ci/tools.txt
	$(PYTHON) -m venv out/tools
	out/tools/bin/python -m pip install --quiet --disable-pip-version-check --requirement .ci/tools.txt
	touch $(TOOLS)

clean:
	rm -rf $(VENV) $(PAGE)/node_modules $(dir $(BUILT)) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
