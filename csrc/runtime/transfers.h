// What a staged Plan moves between DDR and the fast arena, at the moments it says.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/runtime/dma.h"
#include "csrc/runtime/executable.h"

namespace hvl {

// DDR memory that tests make unreadable while kernels run.
struct DdrRange {
  const void* data;
  size_t bytes;
  bool writable;
};

struct TransferStats {
  int64_t bytes_in = 0, bytes_out = 0;
};

class TransferEngine {
 public:
  TransferEngine(const Executable& executable, const RunArgs& args, uint8_t* fast, uint8_t* ddr, bool eager, TransferStats& stats)
      : executable_(executable), args_(args), fast_(fast), ddr_(ddr), ring_(eager), stats_(stats) {}

  // Transfers on their way.
  struct Started {
    DmaRing::Ticket first = 0, end = 0;
  };
  // `base` is added to the fast offsets.
  Started start(const TransferList& list, const Step& step, int64_t base = 0);
  void wait(const Started& started) { ring_.pop(started.first, started.end); }

 private:
  // Where a transfer's DDR side is; fills in what only the run knows (the image's rectangle, the token's block of the embedding).
  uint8_t* resolve(Transfer& t, const Step& step) const;

  const Executable& executable_;
  const RunArgs& args_;
  uint8_t* const fast_;
  uint8_t* const ddr_;
  DmaRing ring_;
  TransferStats& stats_;
};

// Pixels of a kPatchify block of rows that lie in the image: lines and columns from the tile's corner and first line on.
struct ImageRectangle {
  int32_t top, lines, columns;
};
ImageRectangle image_rectangle(const Op& op, const RunArgs& args, int32_t row_begin, int32_t row_end);

}  // namespace hvl
