# Everything from a bare clone: each target makes .venv and installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch and torchvision stand in the same command as timm; otherwise pip takes the newest torch.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH := ^(torch|torchvision|triton|nvidia-|cuda-)
# Half of a test's time is waiting for servers. A file stays together, for its fixtures do. A process
# has one thread for each sum: several, in as many processes as there are cores, mostly wait.
PARALLEL := -n logical --dist loadfile
PIP_AUDIT := pip-audit@2.10.1

.PHONY: help demo test test-long check bench held-out chaos fuzz reproduce lint types contracts fmt lock audit clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/.run ## real decisions on generated signatures, no server needed
	@$(BIN)/sigctl demo

test: $(VENV)/.test ## run the tests against a real Redis, PostgreSQL and S3 server
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL)

test-long: $(VENV)/.test ## the tests that are left out of `make test` because they take minutes
	@$(BIN)/python -m pytest -m long

check: $(VENV)/.check lint types contracts test ## lint, types, import contracts and tests

bench: $(VENV)/.test ## how fast it is, beside what others use; DATA=folder, QUICK=1
	@$(BIN)/python -m bench $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

held-out: $(VENV)/.test ## how often it errs: unseen writers through the whole service; DATA=folder
	@$(BIN)/python -m bench.held_out $(if $(DATA),--data $(DATA))

fuzz: $(VENV)/.test ## broken and hostile files through decoders and network; COUNT=n, SEED=n
	@$(BIN)/python -m bench.fuzz $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

chaos: $(VENV)/.test ## pull every plug and count the jobs; DATA=folder, SHORT=1
	@$(BIN)/python -m bench.chaos $(if $(DATA),--data $(DATA)) $(if $(SHORT),--short)

reproduce: $(VENV)/.run ## train the shipped model once more; DATA=folder of the corpora
	@$(BIN)/python -m bench.reproduce $(if $(DATA),--data $(DATA))

lint: $(VENV)/.check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.check
	@$(BIN)/mypy

contracts: $(VENV)/.check
	@$(BIN)/lint-imports

fmt: $(VENV)/.check ## put the code into the project's format
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# Two files, because PyTorch's own index has other builds under the same versions.
lock: $(VENV)/.check ## write the locks with hashes anew, from constraints.txt
	@mkdir -p .cache
	@$(BIN)/uv pip compile --quiet pyproject.toml --extra cpu -c constraints.txt --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-header -o .cache/all.lock
	@awk '/^[a-z]/ {ours = !/$(TORCH)/} ours' .cache/all.lock > requirements.lock
	@awk '/^[a-z]/ {torch = /$(TORCH)/} torch' .cache/all.lock > requirements-torch.lock

audit: $(VENV)/.check ## ask for known vulnerabilities of what is locked
	@mkdir -p .cache && cat requirements.lock requirements-torch.lock > .cache/all.lock
	@$(BIN)/uv tool run --quiet $(PIP_AUDIT) --strict --disable-pip --requirement .cache/all.lock || \
	  { echo "Not audited, or not clean: the lines above say which. The database of known" \
	    "vulnerabilities must be reachable."; exit 1; }

clean: ## remove .venv and what the targets wrote
	rm -rf $(VENV) demo-output bench-output .cache *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sigctl needs Python 3.11 or newer; name it with: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "No venv module: on Debian and Ubuntu, apt-get install python3-venv"; exit 1; }

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing sigctl into $(VENV) (about a minute, 1.9 GB) ..."
	@$(INSTALL) -e '.[cpu]' && touch $@

$(VENV)/.test: $(VENV)/.run
	@$(INSTALL) -e '.[test]' && touch $@

$(VENV)/.check: $(VENV)/.test
	@$(INSTALL) -e '.[test,check]' && touch $@
