#!/usr/bin/env bash
# Arm64 on an x86 machine: cross-compiles the package with Debian's g++-aarch64-linux-gnu and runs it under qemu-user's qemu-aarch64.
# Everything is laid in build/arm and build/aarch64; nothing is installed and root is not needed. `make arm` calls all of it.
#
#   tools/arm.sh prepare [test]    an arm64 Python (Debian's packages) and the wheels that the package needs; `test`: torch and transformers too;
#                                  and, unless HOST_PYTHON names one, a virtual environment with what builds the package
#   tools/arm.sh build             _core and _testing, and the package with them: build/arm/package
#   build/arm/python ARGS          that Python with that package; ARM_CPU names qemu's processor (max: with i8mm; cortex-a76: without)
#
# HOST_PYTHON: a Python 3.11 of this machine with pip, cmake, ninja, pybind11 and apache-tvm.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/debian_packages.sh
arm=$PWD/build/arm
python=${HOST_PYTHON:-$arm/host/bin/python}
mkdir -p "$arm"

# The pip of this machine picks wheels for another: only what is published for manylinux.
wheels() {
  "$python" -m pip install -q --disable-pip-version-check --target "$arm/site" --upgrade --python-version 3.11 --implementation cp \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --only-binary=:all: "$@"
}

prepare_python() {
  debian_update "$arm/apt" -o APT::Architecture=arm64 -o APT::Architectures=arm64
  rm -rf "$arm/root"
  debian_unpack "$arm/root" python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libpython3.11-dev \
    libc6 libgcc-s1 libstdc++6 libexpat1 zlib1g libffi8 libssl3 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libcrypt1
  # Debian's pyconfig.h looks for the processor's own beside it in a folder that cross compilers do not search.
  cp "$arm/root/usr/include/aarch64-linux-gnu/python3.11/pyconfig.h" "$arm/root/usr/include/python3.11/pyconfig.h"
  rm -rf "$arm/apt"
  cat > "$arm/python" <<SCRIPT
#!/bin/sh
export PYTHONHOME=$arm/root/usr PYTHONPATH=$arm/package:$arm/site
exec qemu-aarch64 -cpu "\${ARM_CPU:-max}" -L $arm/root -0 "\$0" $arm/root/usr/bin/python3.11 "\$@"
SCRIPT
  chmod +x "$arm/python"
}

case ${1:-} in
  prepare)
    if [ ! -x "$python" ]; then
      ${PYTHON:-python3} -m venv "$arm/host"
      "$python" -m pip install -q --disable-pip-version-check cmake ninja "pybind11>=2.13" apache-tvm==0.27.0
    fi
    [ -x "$arm/python" ] || prepare_python
    if [ ! -e "$arm/site/.package" ]; then
      wheels "numpy>=1.26" "pillow>=13" "tokenizers>=0.20" "jinja2>=3.1" "tqdm>=4.60" "pytest>=8" "pytest-benchmark>=5" "hypothesis>=6" safetensors
      touch "$arm/site/.package"
    fi
    # The last torch whose arm64 wheel needs no CUDA libraries (99 MB); its dependencies' markers would be answered for this machine.
    if [ "${2:-}" = test ] && [ ! -e "$arm/site/.test" ]; then
      wheels "transformers>=5.0" sympy networkx loguru psutil pydantic
      wheels --no-deps "compressed-tensors>=0.12"
      wheels --no-deps "torch==2.7.1"
      touch "$arm/site/.test"
    fi
    ;;
  build)
    bin=$(dirname "$("$python" -c 'import sys; print(sys.executable)')")
    PATH=$bin:$PATH cmake --preset aarch64 -DPython_EXECUTABLE="$bin/python" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" \
      ${CMAKE_ARGS:-} > "$arm/configure.log" || { cat "$arm/configure.log"; exit 1; }
    PATH=$bin:$PATH cmake --build --preset aarch64
    mkdir -p "$arm/package"
    rm -rf "$arm/package/hypervl_engine"
    cp -r python/hypervl_engine "$arm/package/"
    rm -f "$arm"/package/hypervl_engine/*.so
    cp build/aarch64/_core.*.so build/aarch64/_testing.*.so "$arm/package/hypervl_engine/"
    ;;
  *)
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
