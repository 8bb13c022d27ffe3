// Functions of the DSP's system that the library calls, declared by hand: the SDK's headers (HAP_*.h, qurt*.h) are not public. Names, order of
// arguments and meaning are learnt from programs under open licences that call them: Apache TVM (runtime/hexagon, Apache-2.0) and llama.cpp
// (ggml-hexagon, MIT) for HAP_mmap_get and the compute resources, whose HAP_compute_res_* are inline functions over the symbols here; Halide
// (runtime/mini_qurt.h, MIT) for qurt_hvx_lock. That these are the types is compile-checked by nobody: see "What nobody but the SDK knows" in
// docs/hexagon.md. All are weak: where a system lacks one, what needs it is an error instead of a library that does not load.
#pragma once

#include <stdint.h>

#define HVL_SYSTEM extern "C" __attribute__((weak))

// The address of a buffer that the host has mapped under `fd` (fastrpc_mmap, FASTRPC_MAP_FD), and the end of its use. 0: done.
HVL_SYSTEM int HAP_mmap_get(int fd, void** address, uint64_t* physical);
HVL_SYSTEM int HAP_mmap_put(int fd);

// A request for resources. Its size is the SDK's to know; a public caller with declarations of its own has 160 bytes, and this is more.
struct alignas(8) ComputeRequest {
  uint8_t room[1024];
};

// Bytes of VTCM; the pages may be null. 0: done.
HVL_SYSTEM int compute_resource_query_VTCM(unsigned application, unsigned* total, void* total_pages, unsigned* available, void* available_pages);
HVL_SYSTEM int compute_resource_attr_init(ComputeRequest* request);
HVL_SYSTEM int compute_resource_attr_set_serialize(ComputeRequest* request, unsigned char on);
// The context is acquired now, and its memory at times, by the functions that end with _cached.
HVL_SYSTEM int compute_resource_attr_set_cache_mode(ComputeRequest* request, unsigned char on);
HVL_SYSTEM int compute_resource_attr_set_vtcm_param_v2(ComputeRequest* request, unsigned bytes, unsigned least_page, unsigned least_bytes);
HVL_SYSTEM int compute_resource_attr_get_vtcm_ptr_v2(ComputeRequest* request, void** address, unsigned* bytes);
HVL_SYSTEM unsigned compute_resource_acquire(ComputeRequest* request, unsigned timeout_us);  // a context, or 0
HVL_SYSTEM int compute_resource_release(unsigned context);
HVL_SYSTEM int compute_resource_acquire_cached(unsigned context, unsigned timeout_us);
HVL_SYSTEM int compute_resource_release_cached(unsigned context);

// A vector unit for the calling thread, which newer systems give without being asked.
HVL_SYSTEM int qurt_hvx_lock(int mode);
HVL_SYSTEM int qurt_hvx_unlock(void);
inline constexpr int kHvx128Bytes = 1;

#undef HVL_SYSTEM
