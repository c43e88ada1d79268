# One command per job, the same here and in CI. `make serve` and `make test` are all a user needs.

PYTHON ?= python3
INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes -r

# Two environments, since `cpu` and `gpu` exclude each other: one serves, one develops (on the CPU).
# A third holds the servers that `bench-peers` compares with, which pin other versions.
SERVE := .venv
DEV := .venv-dev
BENCH := .venv-bench

# The set of ONNX Runtime: `gpu` where an NVIDIA driver answers, else `cpu`.
DEVICE := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)

# How long the checks of reliability run: `make fuzz` by inputs, or by seconds where these are set;
# `make fault` and `make soak` by minutes, too.
N ?= 10000
SEED ?= 1
SECONDS ?= 0
MINUTES ?= 0

.PHONY: serve test lint image sbom bench bench-peers fuzz fault soak openapi client lock clean

serve: $(SERVE)/$(DEVICE)
	$(SERVE)/bin/python -m service serve

# The order is tests/conftest.py's; what runs alone is collected alone, without the training set.
# Four at once on two cores, since much of it waits for other processes; those it starts again and
# again are compiled once.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(DEV)/installed
	$(DEV)/bin/python -m pytest -m "not alone" --numprocesses 4 --dist loadscope --no-loadscope-reorder
	$(DEV)/bin/python -m pytest -m alone $$(grep -rl --include='test_*.py' mark.alone tests)

lint: $(DEV)/installed
	$(DEV)/bin/python -m ruff check .
	$(DEV)/bin/python -m ruff format --check .
	$(DEV)/bin/python -m mypy
	$(DEV)/bin/lint-imports
	$(DEV)/bin/hadolint Dockerfile tests/deploy/images/Dockerfile
	$(DEV)/bin/docker-compose --env-file /dev/null --profile '*' config --quiet
	$(DEV)/bin/docker-compose --env-file /dev/null --profile '*' --file docker-compose.yml \
		--file docker-compose.gpu.yml config --quiet

# One of the images, cpu, gpu or training, with tags of its version and its revision. CA is a file of authorities, for a proxy that signs TLS anew;
# BUILD takes further words of `docker build`.
DOCKER ?= docker
TARGET ?= cpu
CA ?=
BUILD ?=
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' service/__init__.py)
REVISION = $(shell git rev-parse HEAD 2> /dev/null)
SHORT = $(shell git rev-parse --short=12 HEAD 2> /dev/null)
IMAGE := liver-tumor-segmentation
SECRET = --secret id=ca,src=$(CA)
image:
	DOCKER_BUILDKIT=1 $(DOCKER) build --target $(TARGET) --tag $(IMAGE):$(TARGET) \
		--tag $(IMAGE):$(VERSION)-$(TARGET) $(if $(SHORT),--tag $(IMAGE):$(SHORT)-$(TARGET)) \
		--build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$(REVISION) $(if $(CA),$(SECRET)) $(BUILD) .

# Bills of materials of the locked sets; an image has its own, /app/sbom.cdx.json.
sbom:
	mkdir -p build
	for set in cpu gpu training; do \
		$(PYTHON) deploy/image/sbom.py requirements/$$set.txt > build/sbom-$$set.cdx.json || exit 1; \
	done

bench: $(DEV)/installed
	$(DEV)/bin/python -m benchmarks.service
	$(DEV)/bin/python -m benchmarks.outside
	$(DEV)/bin/python -m benchmarks.memory
	$(DEV)/bin/python -m benchmarks.durable
	$(DEV)/bin/python -m benchmarks.objects
	$(DEV)/bin/python -m benchmarks.listen
	$(DEV)/bin/python -m benchmarks.scaling
	$(DEV)/bin/python -m benchmarks.overload
	PYTHONPATH=tests $(DEV)/bin/python -m benchmarks.observability

bench-peers: $(DEV)/installed $(BENCH)/installed
	$(DEV)/bin/python -m benchmarks.peers

fuzz: $(DEV)/installed
	PYTHONPATH=tests $(DEV)/bin/python -m reliability.fuzz --n $(N) --seed $(SEED) --seconds $(SECONDS)

fault: $(DEV)/installed
	PYTHONPATH=tests $(DEV)/bin/python -m reliability.fault --seed $(SEED) --seconds $(SECONDS) \
		--minutes $(MINUTES)

soak: $(DEV)/installed
	PYTHONPATH=tests $(DEV)/bin/python -m reliability.soak --seconds $(SECONDS) --minutes $(MINUTES)

openapi: $(DEV)/installed
	$(DEV)/bin/python -m service openapi

# The client of the committed document; its settings are in openapi/client.yml.
client: openapi
	PATH="$(abspath $(DEV)/bin):$$PATH" openapi-python-client generate --meta setup \
		--path openapi/openapi.json --config openapi/client.yml --output-path openapi/client \
		--overwrite --fail-on-warning

# Each environment holds a file that says what was installed, and is brought up to its lock file.
$(SERVE)/bin/python $(DEV)/bin/python $(BENCH)/bin/python:
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

$(BENCH)/installed: requirements/bench.txt | $(BENCH)/bin/python
	$(BENCH)/bin/python $(INSTALL) $<
	touch $@

# Lock every set anew: exact versions with hashes, no download addresses. All sets agree with the
# largest one, but for the group of other servers. Takes `uv` from the PATH.
LOCK := uv pip compile --quiet --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header
SETS := $(LOCK) pyproject.toml
lock:
	$(SETS) --extra cpu --extra training --extra dev --output-file requirements/dev.txt
	$(SETS) --extra cpu --constraint requirements/dev.txt --output-file requirements/cpu.txt
	$(SETS) --extra gpu --constraint requirements/dev.txt --output-file requirements/gpu.txt
	$(SETS) --extra cpu --extra training --constraint requirements/dev.txt \
		--output-file requirements/training.txt
	$(LOCK) --group bench --output-file requirements/bench.txt

clean:
	rm -rf $(SERVE) $(DEV) $(BENCH) .*_cache
