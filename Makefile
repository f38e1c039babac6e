# hybridattn. `make demo` and `make test` set up everything they need; PYTHON=python3.X chooses the interpreter.
PYTHON ?= python3
JOBS ?= $(shell nproc)
export PYTHON
BIN := .venv/bin
SETUP := pyproject.toml setup.py tests/setup.sh find_blis.py
CORE := setup.py $(shell find csrc -name '*.[ch]')

.PHONY: help demo test fuzz fuzz-asan crash ctest docs lint lint-ruff lint-mypy lint-stubs lint-c format bench wheel clean
.DELETE_ON_ERROR:

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/.core ## the whole job on SmolLM2-135M: align, score, plan, distill, report
	$(BIN)/hybridattn run --demo --out build/demo
	@echo "report: $(CURDIR)/build/demo/report.html (and report.md, report.json)"

test: .venv/.core ## pytest; ARGS="-k name" chooses
	$(BIN)/python -m pytest $(ARGS)

ctest: .venv/.sanitizers ## the C tests under ASan + UBSan and TSan (gcc), UBSan (clang)
	@$(MAKE) --no-print-directory -j$(JOBS) -f tests/c/Makefile MODE=asan
	@! grep -qw avx512f /proc/cpuinfo || HYBRIDATTN_ISA=avx2 $(MAKE) --no-print-directory -f tests/c/Makefile MODE=asan
	@$(MAKE) --no-print-directory -j$(JOBS) -f tests/c/Makefile MODE=ubsan
	@$(MAKE) --no-print-directory -j$(JOBS) -f tests/c/Makefile MODE=tsan

docs: .venv/.with-docs .venv/.core ## the documentation as a site, in build/docs; warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d build/doctrees docs build/docs
	@echo "site: $(CURDIR)/build/docs/index.html"

lint: lint-ruff lint-mypy lint-stubs lint-c ## ruff, mypy, stubtest, clang-format
lint-ruff: .venv/.with-dev
	$(BIN)/ruff check .
lint-mypy: .venv/.with-dev
	$(BIN)/mypy
lint-stubs: .venv/.with-dev .venv/.core
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml hybridattn._core
lint-c: .venv/.with-dev
	find csrc tests/c -name '*.[ch]' | xargs $(BIN)/clang-format --dry-run --Werror

format: .venv/.with-dev ## clang-format and ruff's safe fixes, in place
	$(BIN)/ruff check --fix-only .
	find csrc tests/c -name '*.[ch]' | xargs $(BIN)/clang-format -i

fuzz: .venv/.core ## damaged input for every reader and call, INPUTS (default 10 million) or SECONDS of it
	$(BIN)/python tests/fuzz/run.py $(if $(SECONDS),--seconds $(SECONDS),--inputs $(or $(INPUTS),10000000) --least 100000) --figures build/fuzz.json

fuzz-asan: .venv/.with-test .venv/.sanitizers ## the fuzzer for SECONDS (default 60) on a core under ASan and UBSan
	tests/fuzz/sanitized.sh $(BIN)/python --seconds $(or $(SECONDS),60)

crash: .venv/.core ## stop a whole job at MOMENTS random moments (default 400, half of them kills)
	$(BIN)/python tests/crash/run.py $(or $(MOMENTS),400) 0 build/crash.json

bench: .venv/.core ## benchmarks; beside PyTorch where `pip install -e .[bench]` was done in .venv
	$(BIN)/python benchmarks/run.py $(ARGS)

wheel: .venv/.with-wheel ## sdist and manylinux wheels in dist/, for the CPythons on PATH, or PYTHONS="python3.12 ..."
	$(BIN)/python wheels/make.py $(PYTHONS)

clean: ## removes what was built, keeps .venv and downloaded models
	rm -rf build dist *.egg-info hybridattn/_core*.so .venv/.core .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Stamps: set-up is repeated when its inputs change, the core is rebuilt when a C file does.
.venv/.with-%: $(SETUP)
	tests/setup.sh venv $*
	@touch $@

.venv/.core: $(CORE) | .venv/.with-test
	$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

.venv/.sanitizers: tests/setup.sh
	tests/setup.sh sanitizers
	@mkdir -p .venv && touch $@
