# The TVM kernels (kernels/tvm): compiled ahead of time by the build's Python into one object a kernel and target, no libtvm at run time.
# HVL_TVM: AUTO (use TVM when Python can import it), ON (it must), OFF (the reference bodies under the variants' names).
function(hvl_add_tvm_kernels target)
endfunction()
