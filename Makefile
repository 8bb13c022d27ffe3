# make demo [SEED=7]   build, install into .venv, and let the bundled model answer questions about pictures
# make test            build with the test module, install what the tests need, and run the whole suite
# make lint            ruff and mypy alone
# make asan            the tests of kernels, strange input, images, checkpoints and the engine under the address and undefined-behaviour sanitizers
# make arm             cross-compile for arm64 and run all kernel tests and the demo under qemu-aarch64 (g++-aarch64-linux-gnu, qemu-user)
# make arm-quick       a part of that in a few minutes, without torch: what CI runs
# make hexagon         cross-compile for Hexagon with ziglang and run the tests under qemu-hexagon (docs/hexagon.md); `make test` runs them from then on
# make hexagon-fuzz    changed messages to the DSP program's code, on this machine under the sanitizers: SECONDS (600), CLANG (clang++, with libFuzzer)
# make benchmark       pytest-benchmark over workloads and kernels, into build/benchmarks/latest.json (docs/performance.md)
# make baseline        keeps that as the baseline; make compare: fails where latest.json is slower than the baseline
PYTHON ?= python3
VENV ?= .venv
# What pip is told to install for torch: the CPU build, where pip's configuration knows one. Otherwise name it, with options:
# make test TORCH="torch==2.13.0+cpu --extra-index-url ..."
TORCH ?= torch==2.13.0
SEED ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
SOURCES := $(shell find csrc kernels python cmake -type f -not -name '*.pyc' 2>/dev/null) CMakeLists.txt pyproject.toml

.PHONY: demo test lint asan arm arm-quick hexagon hexagon-build hexagon-fuzz benchmark baseline compare clean

demo: $(VENV)/.installed
	$(BIN)/python -m hypervl_engine.demo $(if $(SEED),--seed $(SEED))

test: lint $(if $(wildcard build/hexagon/bin/qemu-hexagon),hexagon-build)
	$(BIN)/python -m pytest tests kernels $(PYTEST_ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check python tests kernels tools
	$(BIN)/mypy

ASAN := build/asan-ubsan
ASAN_TESTS := kernels $(addprefix tests/test_,staged.py robustness.py safetensors.py checkpoint.py cache.py engine.py preprocess.py images.py vrc.py \
  tiling.py chat.py edited_plans.py plan_report.py placement.py)
asan: $(VENV)/.installed-test
	$(BIN)/python -m pip install --disable-pip-version-check -q cmake ninja pybind11
	$(BIN)/cmake --preset asan-ubsan -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir)
	$(BIN)/cmake --build $(ASAN)
	rm -rf $(ASAN)/package && mkdir $(ASAN)/package && cp -r python/hypervl_engine $(ASAN)/package/
	rm -f $(ASAN)/package/hypervl_engine/*.so && cp $(ASAN)/_*.so $(ASAN)/package/hypervl_engine/
	LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONPATH=$(ASAN)/package $(BIN)/python -m pytest $(ASAN_TESTS) $(PYTEST_ARGS)

# Under emulation (tools/arm.sh). cortex-a76 has dotprod but not i8mm. Quick: the tests that import no torch; attention is among the digests.
ARM := build/arm/python
ARM_PYTEST := $(ARM) -m pytest -q -p no:cacheprovider
ARM_QUICK_TESTS := $(addprefix kernels/,add common embed exp_sum kv_store linear patchify pixel_shuffle quantize) \
  --deselect kernels/linear/test_linear.py::test_packs_what_compressed_tensors_packed
arm: $(VENV)/.installed-test
	tools/arm.sh prepare test
	tools/arm.sh build
	$(ARM_PYTEST) kernels $(PYTEST_ARGS)
	ARM_CPU=cortex-a76 $(ARM_PYTEST) kernels $(PYTEST_ARGS)
	$(ARM) -m hypervl_engine.demo
	ARM_CPU=cortex-a76 $(ARM) -m hypervl_engine.demo
	HVL_ARM_PYTHON=$(abspath $(ARM)) $(BIN)/python -m pytest tests/test_arm.py

arm-quick: $(VENV)/.installed-test
	tools/arm.sh prepare
	tools/arm.sh build
	$(ARM_PYTEST) $(ARM_QUICK_TESTS) $(PYTEST_ARGS)
	HVL_ARM_PYTHON=$(abspath $(ARM)) $(BIN)/python -m pytest tests/test_arm.py

# Under emulation (hexagon/setup.sh). HVL_HEXAGON: nothing may be skipped for want of what was built.
hexagon: $(VENV)/.installed-test hexagon-build
	HVL_HEXAGON=$(abspath build/hexagon) $(BIN)/python -m pytest tests/hexagon $(PYTEST_ARGS)

hexagon-build: $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -q cmake ninja
	for what in build "build v73" session; do HOST_PYTHON=$(abspath $(BIN))/python hexagon/setup.sh $$what || exit 1; done

# libFuzzer, from what tests/hexagon/wire_corpus.tar.xz holds and what tools/hexagon/record_session.py records; what is found goes to build/fuzz/corpus.
FUZZ := build/fuzz
SECONDS ?= 600
CLANG ?= clang++
FUZZ_SOURCES := tools/hexagon/fuzz_service.cc hexagon/dsp/service.cc hexagon/dsp/kernels.cc hexagon/emulated/platform.cc $(wildcard csrc/runtime/*.cc kernels/*/fixed.cc) \
  $(addprefix csrc/,base/arena.cc base/hash.cc base/thread_pool.cc program/program.cc remote/check_program.cc remote/wire.cc \
    schedule/access.cc schedule/plan.cc schedule/steps.cc) $(addprefix kernels/,pixel_shuffle/reference.cc resize/reference.cc patchify/reference.cc vrc/reference.cc)
hexagon-fuzz: $(VENV)/.installed-test hexagon-build
	mkdir -p $(FUZZ)/corpus
	$(CLANG) -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -I. $(FUZZ_SOURCES) -o $(FUZZ)/fuzz_service -pthread
	$(BIN)/python -m tools.hexagon.record_session $(FUZZ)/stream $(FUZZ)/corpus
	tar -xJf tests/hexagon/wire_corpus.tar.xz -C $(FUZZ)/corpus
	HVL_FUZZ_STREAM=$(FUZZ)/stream $(FUZZ)/fuzz_service -max_total_time=$(SECONDS) -max_len=65536 -timeout=120 -artifact_prefix=$(FUZZ)/ $(FUZZ)/corpus

BENCHMARKS := build/benchmarks
benchmark: $(VENV)/.installed-test
	mkdir -p $(BENCHMARKS)
	$(BIN)/python -m pytest tests/benchmarks/bench_*.py kernels/*/bench_*.py --benchmark-enable --benchmark-only \
	  --benchmark-json=$(BENCHMARKS)/latest.json $(PYTEST_ARGS)

baseline:
	cp $(BENCHMARKS)/latest.json $(BENCHMARKS)/baseline.json

compare:
	$(BIN)/python tools/compare_benchmarks.py $(BENCHMARKS)/baseline.json $(BENCHMARKS)/latest.json

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --disable-pip-version-check .
	@rm -f $(VENV)/.installed-test
	@touch $@

# torch first and by itself, so that nothing later pulls in another build of it.
$(VENV)/.torch: $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check $(TORCH)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.torch $(SOURCES)
	$(BIN)/python -m pip install --disable-pip-version-check --config-settings=cmake.define.HVL_BUILD_TESTING=ON ".[test]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf build dist $(VENV)
