# Each goal sets up what it needs and can be run again at any time.
#   make demo     build firmware from the shipped model, boot it in QEMU on a recording, print the word
#   make check    linters, types and the quick tests (under two minutes)
#   make quick    of these the quick tests
#   make test     all tests
#   make fuzz     feed readers, the C and the engines what nearly fits, for MINUTES=n in all (5)
#   make docs     the site of docs/, in build/site; nothing in it comes from elsewhere
#   make bench    measure against other compilers of networks (needs PyPI)
#   make clean    remove what was built (not .venv)

BIN := .venv/bin
# Test processes side by side; one thread in each, or they fight over the cores.
JOBS ?= 2
MINUTES ?= 5
PYTEST := OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help demo check quick test fuzz docs bench setup-core setup-test clean

help:
	@sed -n 's/^#   make/make/p' Makefile

setup-core setup-test:
	@scripts/setup.sh $(@:setup-%=%)

demo: setup-core
	$(BIN)/mbx-deploy build --target cortex-m4 -o build/demo
	$(BIN)/mbx-deploy run build/demo examples/yes.wav

check: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory quick

quick: setup-test
	$(PYTEST) -m "not slow" tests/unit tests/parity

test: setup-test
	@test -d ../shared/speech_commands || \
		echo "NOTE: ../shared/speech_commands is not here: the tests that need it are skipped, named at the end" >&2
	$(PYTEST) --dist worksteal --durations 15

fuzz: setup-test
	OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -m tests.fuzz --minutes $(MINUTES) \
		$(if $(HARNESS),--only $(HARNESS))

docs: setup-test
	$(BIN)/mkdocs build --strict

bench: setup-test
	$(BIN)/python benchmarks/run.py --json benchmarks/peers.json --markdown benchmarks/peers.md

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mbx_deploy tests -name __pycache__ -type d -prune -exec rm -rf {} +
