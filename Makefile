# make demo     load a real language model once, then start from its snapshot
# make test     everything: C unit tests (plain and sanitized), then pytest; in the end, how long each part took
# make check    what needs no run: lint, types, warnings of compilers, form, spelling (GUARDS='types lines' for some)
# make format   bring all sources into the form that make check wants
# make bench    the tables of docs/performance.md
# make bench-llama   magic-llama beside llama.cpp, which it builds in the user's cache directory
#                    (BENCH_LLAMA_OPTIONS='--models smollm2')
# make test-libraries, make bench-libraries    examples that need gigabytes of libraries: the tests, the table
# make docs     the site, in build/docs; a warning is an error
# make conformance   all of CPython's and numpy's own tests, plain and resumed (most of an hour), and 20,000 resumes
# make clean    remove all that the others made; the tree itself they leave clean
#
# PYTHON=... chooses the interpreter that the environment in .venv is made from.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
MODEL := models/SmolLM2-135M-Instruct.Q4_1.gguf
SOURCES := pyproject.toml meson.build meson.options \
           $(shell find native magicheap llama -type f -not -path '*/__pycache__/*')
PIP := $(BIN)/python -m pip
LIBRARIES := $(CURDIR)/build/libraries

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MAGICHEAP_TEST_MODEL := $(CURDIR)/$(MODEL)
export PATH := $(BIN):$(PATH)

.PHONY: demo check format test test-c test-python test-libraries bench bench-llama bench-libraries conformance docs
.PHONY: model clean

demo: $(VENV)/demo.stamp $(MODEL)
	@$(BIN)/python examples/demo.py $(MODEL)

check: $(VENV)/check.stamp
	@$(BIN)/python tools/check.py $(GUARDS)

format: $(VENV)/check.stamp
	@$(BIN)/python tools/wrap_text.py
	@ruff format --quiet .
	@git ls-files -z '*.c' '*.h' | xargs -0 clang-format -i

test: test-c test-python
	@$(BIN)/python tools/test_times.py

test-c: $(VENV)/test.stamp build/python.flags
	@tools/c_tests.sh build/c-plain -Dbuildtype=release
	@tools/c_tests.sh build/c-sanitized -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false

test-python: $(VENV)/test.stamp $(MODEL)
	$(BIN)/python -m pytest --junit-xml=build/pytest.xml

bench: $(VENV)/test.stamp $(MODEL)
	$(BIN)/python bench/all.py $(MODEL) $(BENCH_OPTIONS)

bench-llama: $(VENV)/test.stamp $(MODEL)
	$(BIN)/python bench/bench_llama_cpp.py $(MODEL) $(BENCH_LLAMA_OPTIONS)

test-libraries: $(LIBRARIES)/magicheap.stamp
	$(LIBRARIES)/bin/python -m pytest tests/libraries/library_examples.py tests/libraries/library_roots.py \
		tests/libraries/library_pools.py

bench-libraries: $(LIBRARIES)/magicheap.stamp
	$(LIBRARIES)/bin/python bench/bench_libraries.py

conformance: $(VENV)/test.stamp
	suite=$$(tools/cpython_suite.sh $(BIN)/python $(CURDIR)/build/cpython) && \
		$(BIN)/python tests/conformance/cpython.py --python "$$suite"
	$(BIN)/python tests/conformance/numpy_suite.py
	$(BIN)/python tests/conformance/resumes.py

docs: $(VENV)/docs.stamp
	@$(BIN)/python tools/reference.py --check
	@$(BIN)/python -m sphinx -W --keep-going -q -c docs -d build/docs-cache . build/docs
	@echo "The site begins at build/docs/index.html"

model: $(MODEL)

$(MODEL): | $(VENV)/python.stamp
	$(BIN)/python tools/fetch_model.py models

$(VENV)/python.stamp:
	@echo "Creating an environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Where Python.h is not installed it is fetched below build/.
build/python.flags: $(VENV)/python.stamp tools/python_headers.sh
	@mkdir -p build
	@tools/python_headers.sh $(BIN)/python $(CURDIR)/build/python-headers > $@.part && mv $@.part $@

$(VENV)/demo.stamp: build/python.flags $(SOURCES)
	@echo "Building and installing magicheap"
	@rm -rf build/wheel
	@CFLAGS="$$(cat build/python.flags) $$CFLAGS" $(PIP) wheel --quiet --no-deps --wheel-dir build/wheel .
	@$(PIP) install --quiet --force-reinstall --no-deps build/wheel/*.whl
	@$(PIP) install --progress-bar on "$$(echo build/wheel/*.whl)[llama]" | grep -v 'already satisfied' || true
	@touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	@$(PIP) install --quiet "$$(echo build/wheel/*.whl)[test]"
	@touch $@

$(VENV)/docs.stamp: $(VENV)/demo.stamp
	@$(PIP) install --quiet "$$(echo build/wheel/*.whl)[docs]"
	@touch $@

$(VENV)/check.stamp: $(VENV)/test.stamp pyproject.toml
	@$(PIP) install --quiet "$$(echo build/wheel/*.whl)[check]"
	@touch $@

$(LIBRARIES)/libraries.stamp: tests/libraries/requirements.txt
	@echo "Creating an environment of large libraries in $(LIBRARIES)"
	@mkdir -p build && $(PYTHON) -m venv --clear $(LIBRARIES)
	@$(LIBRARIES)/bin/python -m pip install --quiet -r $<
	@touch $@

$(LIBRARIES)/magicheap.stamp: $(LIBRARIES)/libraries.stamp $(VENV)/demo.stamp
	@$(LIBRARIES)/bin/python -m pip install --quiet --force-reinstall --no-deps build/wheel/*.whl
	@$(LIBRARIES)/bin/python -m pip install --quiet build/wheel/*.whl
	@touch $@

clean:
	rm -rf $(VENV) build models
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache
