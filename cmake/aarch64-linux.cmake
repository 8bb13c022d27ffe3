# Toolchain: arm64 Linux on an x86 host, with Debian's g++-aarch64-linux-gnu. tools/arm.sh lays the arm64 Python whose headers are used.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)

# The host's Python runs what the build runs (pybind11's folder, TVM); headers and the modules' suffix are the target's.
set(HVL_ARM_ROOT ${CMAKE_CURRENT_LIST_DIR}/../build/arm/root CACHE PATH "where tools/arm.sh put the arm64 Python")
set(Python_INCLUDE_DIR ${HVL_ARM_ROOT}/usr/include/python3.11)
set(PYBIND11_USE_CROSSCOMPILING ON)
set(PYTHON_MODULE_EXT_SUFFIX .cpython-311-aarch64-linux-gnu.so)
