# The TVM kernels (kernels/tvm): compiled ahead of time by the build's Python into one object a kernel and target, no libtvm at run time.
# HVL_TVM: AUTO (use TVM when Python can import it), ON (it must), OFF (the reference bodies under the variants' names).

# Sets HVL_TVM_USED to whether the build's Python can compile them. Importing TVM takes seconds: asked once a configured Python.
function(hvl_find_tvm)
  if(NOT HVL_TVM MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "HVL_TVM: expected AUTO, ON or OFF, got ${HVL_TVM}")
  endif()
  if(HVL_TVM STREQUAL "OFF")
    set(HVL_TVM_USED OFF PARENT_SCOPE)
    return()
  endif()
  if(NOT DEFINED HVL_TVM_VERSION OR NOT HVL_TVM_ASKED STREQUAL "${Python_EXECUTABLE}")
    execute_process(
      COMMAND ${Python_EXECUTABLE} -c "import tvm; from tvm.script import tirx; print(tvm.__version__)"
      OUTPUT_VARIABLE version ERROR_VARIABLE error RESULT_VARIABLE result OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(NOT result EQUAL 0)
      set(version "")
    endif()
    set(HVL_TVM_VERSION "${version}" CACHE INTERNAL "apache-tvm found, or empty")
    set(HVL_TVM_ASKED "${Python_EXECUTABLE}" CACHE INTERNAL "the Python that was asked for it")
  endif()
  if(HVL_TVM_VERSION AND CMAKE_OBJCOPY AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|aarch64|arm64)$")
    message(STATUS "TVM kernels: apache-tvm ${HVL_TVM_VERSION}")
    set(HVL_TVM_USED ON PARENT_SCOPE)
  elseif(HVL_TVM STREQUAL "ON")
    message(FATAL_ERROR "HVL_TVM=ON: expected x86-64 or aarch64, objcopy and a Python that imports tvm (pip install apache-tvm==0.27.0); "
                        "got ${CMAKE_SYSTEM_PROCESSOR}, objcopy '${CMAKE_OBJCOPY}', Python ${Python_EXECUTABLE}")
  else()
    message(STATUS "TVM kernels: the reference bodies (no apache-tvm in ${Python_EXECUTABLE})")
    set(HVL_TVM_USED OFF PARENT_SCOPE)
  endif()
endfunction()

# Adds the compiled kernels to a target that has the kernel folders' sources, and tells them (HVL_TVM_KERNELS).
function(hvl_add_tvm_kernels target)
  set(source_dir ${PROJECT_SOURCE_DIR}/kernels/tvm)
  hvl_find_tvm()
  if(NOT HVL_TVM_USED)
    return()
  endif()
  set(isas portable avx2 avx512vnni)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(isas neondot)
  endif()
  set(object_dir ${CMAKE_CURRENT_BINARY_DIR}/tvm_kernels)
  set(objects)
  foreach(isa IN LISTS isas)
    foreach(kernel resize patchify vrc_stem vrc_depthwise vrc_pointwise vrc_pool)
      list(APPEND objects ${object_dir}/${kernel}_${isa}.o)
    endforeach()
  endforeach()
  if("portable" IN_LIST isas)
    list(APPEND objects ${object_dir}/linear_portable.o ${object_dir}/attention_portable.o)
  endif()
  file(GLOB schedules CONFIGURE_DEPENDS ${source_dir}/*.py)
  add_custom_command(
    OUTPUT ${objects}
    COMMAND ${Python_EXECUTABLE} -B ${source_dir}/build.py ${object_dir} ${CMAKE_OBJCOPY} ${isas}
    DEPENDS ${schedules}
    COMMENT "Compiling the TVM kernels"
    VERBATIM)
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  target_sources(${target} PRIVATE ${objects})
  target_compile_definitions(${target} PRIVATE HVL_TVM_KERNELS)
endfunction()
