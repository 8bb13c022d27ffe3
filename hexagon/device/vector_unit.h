// HVX for a thread.
#pragma once

#include "hexagon/device/hap.h"

namespace hvl {

// While it lives the calling thread has a vector unit. (Where nobody can be asked for one, as under emulation, it has one in any case.)
class VectorUnit {
 public:
  VectorUnit() : locked_(qurt_hvx_lock && qurt_hvx_unlock && qurt_hvx_lock(kHvx128Bytes) == 0) {}
  ~VectorUnit() {
    if (locked_) qurt_hvx_unlock();
  }
  VectorUnit(const VectorUnit&) = delete;
  VectorUnit& operator=(const VectorUnit&) = delete;

 private:
  const bool locked_;
};

}  // namespace hvl
