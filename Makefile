# One command per job, the same here and in CI. `make serve` and `make test` are all a user needs.

PYTHON ?= python3
INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes -r

# Two environments, since `cpu` and `gpu` exclude each other: one serves, one develops (on the CPU).
SERVE := .venv
DEV := .venv-dev

# The set of ONNX Runtime: `gpu` where an NVIDIA driver answers, else `cpu`.
DEVICE := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)

# How long the checks of reliability run: `make fuzz` by requests, or by seconds where these are set.
N ?= 10000
SEED ?= 1
SECONDS ?= 0

.PHONY: serve test lint bench fuzz fault soak openapi lock clean

serve: $(SERVE)/$(DEVICE)
	$(SERVE)/bin/python -m service serve

test: $(DEV)/installed
	$(DEV)/bin/python -m pytest

lint: $(DEV)/installed
	$(DEV)/bin/python -m ruff check .
	$(DEV)/bin/python -m ruff format --check .
	$(DEV)/bin/python -m mypy
	$(DEV)/bin/lint-imports

bench: $(DEV)/installed
	$(DEV)/bin/python -m benchmarks.service
	$(DEV)/bin/python -m benchmarks.outside
	$(DEV)/bin/python -m benchmarks.memory

fuzz: $(DEV)/installed
	PYTHONPATH=tests $(DEV)/bin/python -m reliability.fuzz --n $(N) --seed $(SEED) --seconds $(SECONDS)

fault: $(DEV)/installed
	PYTHONPATH=tests $(DEV)/bin/python -m reliability.fault --seed $(SEED) --seconds $(SECONDS)

soak: $(DEV)/installed
	PYTHONPATH=tests $(DEV)/bin/python -m reliability.soak --seconds $(SECONDS)

openapi: $(DEV)/installed
	$(DEV)/bin/python -m service openapi

# Each environment holds a file that says what was installed, and is brought up to its lock file.
$(SERVE)/bin/python $(DEV)/bin/python:
	$(PYTHON) -m venv $(@D)/..

$(SERVE)/cpu: requirements/cpu.txt | $(SERVE)/bin/python
	$(SERVE)/bin/python $(INSTALL) $<
	touch $@

$(SERVE)/gpu: requirements/gpu.txt models/liver-tumor.onnx | $(SERVE)/bin/python
	$(SERVE)/bin/python $(INSTALL) $<
	$(SERVE)/bin/python -m export gpu models/liver-tumor.onnx
	touch $@

$(DEV)/installed: requirements/dev.txt | $(DEV)/bin/python
	$(DEV)/bin/python $(INSTALL) $<
	touch $@

# Lock every set anew: exact versions with hashes, no download addresses. All sets agree with the
# largest one. Takes `uv` from the PATH.
LOCK := uv pip compile pyproject.toml --quiet --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header
lock:
	$(LOCK) --extra cpu --extra training --extra dev --output-file requirements/dev.txt
	$(LOCK) --extra cpu --constraint requirements/dev.txt --output-file requirements/cpu.txt
	$(LOCK) --extra gpu --constraint requirements/dev.txt --output-file requirements/gpu.txt
	$(LOCK) --extra cpu --extra training --constraint requirements/dev.txt \
		--output-file requirements/training.txt

clean:
	rm -rf $(SERVE) $(DEV) .*_cache
