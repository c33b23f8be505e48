# Two commands: `make demo` and `make test`. Both set up what is missing first; a second call finds it done.
PYTHON ?= python3
SETUP = PYTHONPATH=src "$(PYTHON)" -m saman.launcher.setup $(SETUP_OPTIONS)
BIN = .venv/bin
COMPAT = .venv-compat/bin

.PHONY: help demo demo-study test test-compat bench tune-campaign mutants fuzz serve-day swaps rollouts kills elastic-kills python setup setup-compat lint lock clean

help:
	@echo "make demo         train a real classifier two ways, compare, publish it"
	@echo "make demo-study   a small real scaling study of this machine, and its report (a few minutes)"
	@echo "make test         all tests"
	@echo "make test-compat  the trainers' tests on TensorFlow 2.15 with stock Horovod and Keras 2"
	@echo "make bench        the short versions of all benchmarks, under 15 minutes (see docs/performance.md)"
	@echo "make elastic-kills  kill 20 ranks of an elastic run, compare its weights, draw it (ELASTIC_KILLS='--seed 2'; minutes)"
	@echo "make setup        only the environment, in .venv (make setup PYTHON=... to choose the Python,"
	@echo "                  SETUP_OPTIONS='--mpi system' to build Horovod with the MPI on PATH)"
	@echo "make tune-campaign  200 trials on a minicluster, a fifth of them SIGKILLed (half an hour; see docs/tuning.md)"
	@echo "make mutants      before a release: mutations of safety-critical functions, each killed by a named test (minutes)"
	@echo "make rollouts     10,000 simulated rollouts, judged after every request (half an hour)"
	@echo "make kills        fifty random SIGKILLs of a real training; the weights must not notice (half an hour)"
	@echo "make fuzz         100,000 malformed requests against a server (minutes)"
	@echo "make serve-day    10 million requests, promotions and kills: errors, memory (half an hour; DAY='--requests N')"
	@echo "make swaps        fifty promotions under 100,000 requests: errors, p99, effect (a minute or two)"
	@echo "make lint         ruff and mypy"
	@echo "make lock         choose the newest versions anew for launcher/setup/locks"
	@echo "make clean        remove environments and caches of tools; runs and models stay"

demo: setup
	@$(BIN)/saman demo

demo-study: setup
	@$(BIN)/saman study demo
	@$(BIN)/saman report demo -o reports/demo-study || test $$? -eq 1

# Two processes: most of the tests wait for ranks, jobs and servers. WORKERS=0 runs all in one.
WORKERS ?= 2
test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-compat: setup-compat
	$(COMPAT)/python -m pytest -n $(WORKERS) --dist loadfile tests/trainers tests/launcher/test_horovod_ranks.py tests/launcher/test_horovod_scripts.py \
		--ignore tests/trainers/pipeline/test_pipeline_memory.py \
		--ignore tests/trainers/strategies/test_exchange_options.py \
		--deselect $(REMOVED)
# What is left out measures the current TensorFlow, does not depend on Keras, or calls what only Keras 3 has removed.
REMOVED = tests/launcher/test_horovod_scripts.py::test_a_script_that_calls_what_keras_3_has_removed_ends_with_the_option_that_runs_it

python:
	@command -v "$(PYTHON)" >/dev/null || { echo "error: there is no $(PYTHON) on PATH" \
		"(apt install python3 python3-venv; or make PYTHON=/path/to/python3)" >&2; exit 3; }

setup: python
	@$(SETUP)

setup-compat: python
	@$(SETUP) --compat

fuzz: setup
	$(BIN)/python -m tests.serving.fuzz_serving $(REQUESTS)

serve-day: setup
	$(BIN)/python benchmarks/serving/day.py $(DAY)

swaps: setup
	$(BIN)/python benchmarks/serving/swaps.py $(SWAPS)

bench: setup
	$(BIN)/python benchmarks $(BENCHMARKS)

tune-campaign: setup
	$(BIN)/python -m tests.tuning.campaign $(CAMPAIGN)

elastic-kills: setup
	$(BIN)/python benchmarks/elastic/kills.py $(ELASTIC_KILLS)
	$(BIN)/python benchmarks/elastic/picture.py elastic-kills

mutants: setup
	$(BIN)/python -m tests.mutants $(MUTANTS)

rollouts: setup
	SAMAN_ROLLOUTS=10000 $(BIN)/python -m pytest -q -s tests/registry/rollout/test_rollout_simulation.py --timeout 7200

KILLS ?= --kills 50 --seed 7
OTHER_KILLS ?= --kills 10 --seed 7
kills: setup
	$(BIN)/python tests/launcher/restarts/kill_driver.py kills $(KILLS)
	$(BIN)/python tests/launcher/restarts/kill_driver.py kills-of-a-pipeline --strategy pipeline $(OTHER_KILLS)
	$(BIN)/python tests/launcher/restarts/kill_driver.py kills-of-multi-worker --strategy multi_worker $(OTHER_KILLS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# uv reads one file for all Python versions; nothing else needs it.
LOCK = .venv-lock/bin/uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --custom-compile-command "make lock" --no-emit-package saman \
	--extra train --extra mpi --extra build --extra test --extra dev setup.cfg
LOCKS = launcher/setup/locks
CONVERTERS = registry/evaluation/locks

lock:
	"$(PYTHON)" -m venv .venv-lock && .venv-lock/bin/python -m pip install -q uv
	$(LOCK) --upgrade --extra serve --extra onnx --extra tune $(LOCKS)/tensorflow-2.21.in --override $(LOCKS)/overrides.txt -o $(LOCKS)/tensorflow-2.21.lock
	$(LOCK) --upgrade --extra serve $(LOCKS)/tensorflow-2.15.in -o $(LOCKS)/tensorflow-2.15.lock
	for name in litert onnx tfjs; do .venv-lock/bin/uv pip compile -q --universal --python-version 3.10 --no-deps \
		--generate-hashes --no-header --no-annotate --no-emit-index-url $(CONVERTERS)/$$name.in -o $(CONVERTERS)/$$name.lock; done
	cd $(CONVERTERS)/tfjs && npm install --package-lock-only --ignore-scripts --no-audit --no-fund \
		--omit-lockfile-registry-resolved

clean:
	rm -rf .venv .venv-compat .venv-lock .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
