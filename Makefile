# make test, make demo and make bench set everything up in .venv and reuse it; make check needs make test's set-up.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= demo-out
DIGITS := examples/digits
CALLS := examples/calls
SHAPES := examples/shapes

.PHONY: demo system test test-slow test-aarch64 test-oldest test-processors test-sanitizers bench check clean

demo: .venv/installed
	$(BIN)/evm-deploy export $(DIGITS)/digits.safetensors --image-size 64 --labels $(DIGITS)/labels.txt \
		--images $(DIGITS)/images --out $(OUT)/digits --overwrite
	$(BIN)/evm-deploy predict $(OUT)/digits $(DIGITS)/images/*.png --top 1
	$(BIN)/python examples/random_tiny.py $(OUT)
	$(BIN)/evm-deploy export $(OUT)/tiny_random.safetensors --images $(OUT)/china.png --out $(OUT)/tiny --overwrite
	$(BIN)/evm-deploy predict $(OUT)/tiny $(OUT)/china.png --top 3
	$(BIN)/evm-deploy profile $(OUT)/tiny --every-way --threads 1 --iterations 50 --operators \
		--out $(OUT)/tiny-profile --overwrite
	$(BIN)/evm-deploy package $(OUT)/digits --for linux --out $(OUT)/digits-linux --archive --overwrite
	$(BIN)/evm-deploy verify $(OUT)/digits-linux.zip
	$(BIN)/python $(CALLS)/data.py $(OUT)/calls-calibration --count 256
	$(BIN)/python $(CALLS)/data.py $(OUT)/calls-held-out --count 1000 --split held-out
	$(BIN)/evm-deploy export $(CALLS)/calls.safetensors --image-size 96 --labels $(CALLS)/labels.txt \
		--out $(OUT)/calls --overwrite
	$(BIN)/evm-deploy quantize $(OUT)/calls --data $(OUT)/calls-calibration --out $(OUT)/calls-int8 --overwrite
	$(BIN)/evm-deploy evaluate $(OUT)/calls $(OUT)/calls-int8 --data $(OUT)/calls-held-out --max-drop 1
	$(BIN)/python $(SHAPES)/data.py $(OUT)/shapes --count 40
	$(BIN)/evm-deploy export $(SHAPES)/detector.pth --image-size 160 \
		--images $(OUT)/shapes/images/held-out_00000.png \
		--out $(OUT)/detector --overwrite
	$(BIN)/evm-deploy evaluate $(OUT)/detector --data $(OUT)/shapes/images \
		--annotations $(OUT)/shapes/annotations.json --floor 0.7
	$(BIN)/evm-deploy export $(SHAPES)/segmenter.pth --image-size 160 \
		--images $(OUT)/shapes/images/held-out_00000.png \
		--out $(OUT)/segmenter --overwrite
	$(BIN)/evm-deploy evaluate $(OUT)/segmenter --data $(OUT)/shapes/images \
		--annotations $(OUT)/shapes/masks --floor 0.8
	$(BIN)/evm-deploy export $(DIGITS)/digits.safetensors --target coreml --precision fp16 --image-size 64 \
		--bake-preprocessing --labels $(DIGITS)/labels.txt --out $(OUT)/digits-coreml --overwrite
	$(BIN)/evm-deploy predict $(OUT)/digits-coreml $(DIGITS)/images/*.png --top 1
	$(BIN)/evm-deploy export $(OUT)/tiny_random.safetensors --target tensorrt --precision fp16 \
		--out $(OUT)/tiny-tensorrt --overwrite

# A real browser and a real SSH server; where they are missing and cannot be installed, their tests are skipped.
system:
	@for have in chromedriver:chromium-driver /usr/sbin/sshd:openssh-server npm:npm; do \
		command -v $${have%%:*} > /dev/null || missing="$$missing $${have##*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing > /dev/null; \
	elif [ -n "$$missing" ]; then echo "not installed, their tests are skipped:$$missing"; fi

# Two workers, a core each: with more threads they wait for each other (a fifth to a third longer). Each begins with a
# half of the tests in their order, so that what the tests of a file share is made by one of them.
test: .venv/installed system
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: .venv/installed system
	$(BIN)/pip install -q -c constraints.txt ziglang kotlin-jupyter-kernel
	$(BIN)/python -m pytest -n 2 -m slow

test-aarch64: .venv/installed
	$(BIN)/pip install -q -c constraints.txt ziglang
	$(BIN)/python -m pytest -rs tests/native/test_aarch64.py tests/native/test_wasm.py

test-oldest: .venv/installed
	$(PYTHON) -m venv build/oldest
	build/oldest/bin/pip install -q "onnxruntime==1.20.*" numpy
	$(BIN)/evm-deploy export $(DIGITS)/digits.safetensors --image-size 64 --dynamic-batch --dynamic-size \
		--out build/oldest-bundle --overwrite
	build/oldest/bin/python tests/run_golden_pair.py build/oldest-bundle \
		$$($(BIN)/python -c "import evm_deploy; print(evm_deploy.native_library())")

# The integers and our kernels on this processor, by every instruction set that it has, and a quantised network on two
# emulated ones, with AVX2 and no VNNI, and without AVX; then there all tests whose numbers depend on the processor.
PROCESSORS := Haswell Nehalem
test-processors: .venv/installed
	@command -v qemu-x86_64-static > /dev/null || { echo "install qemu-x86_64-static (Debian: apt install qemu-user-static)"; exit 2; }
	$(BIN)/python -m pytest -v tests/native tests/calib/onnx/test_processors.py
	for processor in $(PROCESSORS); do echo "on $$processor:"; OMP_NUM_THREADS=1 \
		qemu-x86_64-static -cpu $$processor $(BIN)/python -m pytest -q -p no:cacheprovider -m "processor and not slow" \
			tests/native tests/calib/onnx/test_lookups.py || exit 1; done

# Our kernels, compiled so that a read or write outside of memory, and any undefined arithmetic, ends the program.
SANITIZED := build/sanitized
test-sanitizers: .venv/installed
	cmake -S native -B $(SANITIZED) -DCMAKE_BUILD_TYPE=Debug \
		-DCMAKE_CXX_FLAGS="-g -fsanitize=address,undefined -fno-sanitize-recover=all"
	cmake --build $(SANITIZED) --target evm_ops -j 2
	ASAN_OPTIONS=detect_leaks=0,allocator_may_return_null=1 EVM_DEPLOY_NATIVE_LIBRARY=$(CURDIR)/$(SANITIZED)/libevm_ops.so \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
		$(BIN)/python -m pytest -q tests/native -m "not slow"

# Searches from the corpus on; ends at the first fault, and leaves the file that shows it in the current folder.
FUZZ_SECONDS ?= 600
fuzz: .venv/installed
	$(BIN)/pip install -q -c constraints.txt atheris
	for target in tests/fuzz/fuzz_*.py; do $(BIN)/python $$target $(FUZZ_SECONDS) || exit 1; done

bench: .venv/installed
	$(BIN)/pip install -q -c constraints.txt huggingface_hub pyyaml
	$(BIN)/pip install -q -c constraints.txt --no-deps timm torchvision
	$(BIN)/python benchmarks/scan.py --stage 1
	$(BIN)/python benchmarks/scan.py --stage 2 --skip unrolled
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/latency.py --name families --networks vmamba-t vmamba-t-v0 vim-t \
		--peers swin_tiny_patch4_window7_224 deit_tiny_patch16_224
	$(BIN)/python benchmarks/coreml.py
	$(BIN)/python benchmarks/int8.py
	$(BIN)/python benchmarks/int8_accuracy.py

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build $(OUT)

# torch comes first and by its exact version: asked for by a range, the newest build for GPUs is fetched.
.venv/installed: pyproject.toml constraints.txt $(wildcard native/*)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@
