// How a caller stops what takes long.
#pragma once

namespace hvl {

// Asked by the calling thread: in a run between blocks of rows of a group (at least once a layer), in resizing between strips; true: stop.
struct CancelCheck {
  bool (*requested)(void* context) = nullptr;
  void* context = nullptr;
};

}  // namespace hvl
