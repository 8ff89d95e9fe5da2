# Everything a developer or CI runs. `make help` lists the targets.
# Presumed on the machine: Python 3.11 or newer, git and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
EXTRAS ?= server,demo,train,dev
# cpu, cu126, cu128, cu130, xpu, rocm...: another build of torch than the package index's default.
TORCH_BACKEND ?=

.DEFAULT_GOAL := help
.PHONY: help setup

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv comes from pip and then installs the rest: pip would pair a local CPU wheel of torch with a
# CUDA build of torchvision. SAM2_BUILD_CUDA=0 builds sam2 as pure Python, without a compiler; the
# build constraints give its isolated build the torch that is installed anyway, not a second one.
# The accelerator's runtime libraries follow from the torch build, so another build drops their pins.
$(STAMP): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Maskwire needs Python 3.11 or newer; call make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	grep -v -E '^(cuda-|nvidia-|triton)' constraints.txt > $(VENV)/constraints-portable.txt
	SAM2_BUILD_CUDA=0 $(BIN)/uv pip install --python $(BIN)/python \
		--constraint $(if $(TORCH_BACKEND),$(VENV)/constraints-portable.txt --torch-backend $(TORCH_BACKEND),constraints.txt) \
		--build-constraint $(if $(TORCH_BACKEND),$(VENV)/constraints-portable.txt,constraints.txt) \
		--editable '.[$(EXTRAS)]'
	touch $@

setup: $(STAMP) ## Create .venv with everything (TORCH_BACKEND=cpu|cu130|... for another torch build)
