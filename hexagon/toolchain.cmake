# Toolchain: Hexagon Linux (static, musl) with HVX of 128 bytes, by the clang of ziglang. hexagon/setup.sh lays it in build/hexagon.
#
# HEXAGON_ARCH: v68 .. v81. The first program linked for each of them takes minutes, for zig builds the C and C++ libraries then; later ones
# take them from the cache.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR hexagon)
set(HEXAGON_ARCH v68 CACHE STRING "Hexagon architecture")
set(HEXAGON_TOOLS ${CMAKE_CURRENT_LIST_DIR}/../build/hexagon CACHE PATH "where hexagon/setup.sh put the tools")
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES HEXAGON_ARCH HEXAGON_TOOLS)
if(NOT EXISTS ${HEXAGON_TOOLS}/bin/zig-c++)
  message(FATAL_ERROR "no ${HEXAGON_TOOLS}/bin/zig-c++: run hexagon/setup.sh toolchain")
endif()
foreach(language C CXX)
  # One -mcpu string for everything: zig has one set of libraries for each.
  set(CMAKE_${language}_FLAGS_INIT "--target=hexagon-linux-musl -mcpu=hexagon${HEXAGON_ARCH}+hvx+hvx${HEXAGON_ARCH}+hvx_length128b -g0")
endforeach()
set(CMAKE_C_COMPILER ${HEXAGON_TOOLS}/bin/zig-cc)
set(CMAKE_CXX_COMPILER ${HEXAGON_TOOLS}/bin/zig-c++)
set(CMAKE_AR ${HEXAGON_TOOLS}/bin/zig-ar)
set(CMAKE_RANLIB ${HEXAGON_TOOLS}/bin/zig-ranlib)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
# CMake's trials compile only: linking one would build the libraries of architectures that nothing is linked for.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_CROSSCOMPILING_EMULATOR ${HEXAGON_TOOLS}/bin/qemu-hexagon)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE NEVER)
