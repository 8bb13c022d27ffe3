// The machine under the DSP program on a device: VTCM by the compute resource manager, the host's buffers by HAP.
#include "hexagon/dsp/platform.h"

#include "csrc/base/error.h"
#include "hexagon/device/hap.h"

namespace hvl {
namespace {

constexpr unsigned kReserveTimeout = 1000000, kAcquireTimeout = 1000000;  // microseconds

}  // namespace

// All of VTCM is asked for, for it is one page then; others get it between runs.
struct FastMemory::State {
  ComputeRequest request;
  unsigned context = 0;
  uint8_t* data = nullptr;

  ~State() {
    if (context != 0) compute_resource_release(context);
  }
};

FastMemory::FastMemory() = default;
FastMemory::~FastMemory() = default;

std::string FastMemory::reserve(size_t bytes) {
  if (!compute_resource_query_VTCM || !compute_resource_attr_init || !compute_resource_attr_set_serialize || !compute_resource_attr_set_cache_mode ||
      !compute_resource_attr_set_vtcm_param_v2 || !compute_resource_attr_get_vtcm_ptr_v2 || !compute_resource_acquire || !compute_resource_release ||
      !compute_resource_acquire_cached || !compute_resource_release_cached) {
    return "this system has no compute resource manager";
  }
  unsigned total = 0;
  if (compute_resource_query_VTCM(0, &total, nullptr, nullptr, nullptr) != 0) return "the system does not say how much fast memory there is";
  if (bytes > total) return joined("no ", bytes, " bytes of fast memory: this machine has ", total);
  auto state = std::make_unique<State>();
  ComputeRequest& request = state->request;
  if (compute_resource_attr_init(&request) != 0 || compute_resource_attr_set_serialize(&request, 0) != 0 ||
      compute_resource_attr_set_cache_mode(&request, 1) != 0 || compute_resource_attr_set_vtcm_param_v2(&request, total, total, total) != 0) {
    return "the system does not take a request for fast memory";
  }
  state->context = compute_resource_acquire(&request, kReserveTimeout);
  if (state->context == 0) return joined("no ", total, " bytes of fast memory in one page now");
  void* data = nullptr;
  unsigned got = 0;
  if (compute_resource_attr_get_vtcm_ptr_v2(&request, &data, &got) != 0 || !data || got < bytes) return joined("got ", got, " bytes of fast memory, not ", bytes);
  state->data = static_cast<uint8_t*>(data);
  state_ = std::move(state);
  bytes_ = bytes;
  return {};
}

uint8_t* FastMemory::acquire(size_t) { return compute_resource_acquire_cached(state_->context, kAcquireTimeout) == 0 ? state_->data : nullptr; }

int64_t FastMemory::release() {
  compute_resource_release_cached(state_->context);
  return 0;
}

Counts read_counters() { return {}; }

bool HostBuffer::map(int32_t fd, size_t bytes) {
  void* data = nullptr;
  if (!HAP_mmap_get || !HAP_mmap_put || HAP_mmap_get(fd, &data, nullptr) != 0 || !data) return false;
  data_ = static_cast<const uint8_t*>(data);
  bytes_ = bytes;
  fd_ = fd;
  return true;
}

HostBuffer::~HostBuffer() {
  if (data_) HAP_mmap_put(fd_);
}

}  // namespace hvl
