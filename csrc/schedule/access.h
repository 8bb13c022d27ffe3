// What an op reads and writes of its operands for a block of its rows.
#pragma once

#include <cstdint>

#include <vector>

#include "csrc/program/program.h"

namespace hvl {

struct RowRange {
  int32_t begin = 0, end = 0;
};

const ProgramSection& section_of(const Program& program, int32_t op);

// The rows that row blocks cut: those of the output (of the input, where there is no output with rows of its own).
struct OpRows {
  int32_t max_rows = 0;
  bool dynamic = false;
  bool operator==(const OpRows&) const = default;
};
OpRows op_rows(const Program& program, const Op& op);
int32_t row_quantum(const Program& program, const Op& op);  // blocks begin at multiples of this

// Rows of in[k] that output rows `rows` need.
RowRange input_rows(const Program& program, const Op& op, int k, RowRange rows);
// Whether these may go beyond `rows`: then whoever writes in[k] must be done with all rows first, so it belongs to an earlier group.
bool reads_beyond_block(const Op& op, int k);
// Whether in[k], when it lives in DDR, passes through a window: not rope's tables and the image (scratch), nor attention's K/V (ring).
bool through_window(const Op& op, int k);
bool is_kv(const Op& op, int k);        // in[k] (k = 3: out) is a K/V buffer: a row a position, in the layout of kernels/kv_store
bool reads_output(const Op& op);        // out is read too, or written in part only

// Whether the op behind o quantises the rows that o gives, and nobody else reads them: a device that works in place may then do both a row at a
// time. The quantised rows of such a pair have memory from o on.
bool quantised_next(const Program& program, int32_t o);

inline int64_t rows_bytes(const Buffer& buffer, int32_t rows) { return int64_t(buffer.bytes(rows)); }
double bytes_a_row(const Buffer& buffer);  // on average: K/V lie in blocks of 16 rows

// Units a step of the op may be cut into: kLinear: blocks of 32 outputs; kAttention: K/V heads; else 1.
int32_t op_units(const Program& program, const Op& op);

// First and last op (inclusive) during which a buffer must keep its content, ops of a section taken in order once.
struct Lifetime {
  int32_t first = -1, last = -1;
};
std::vector<Lifetime> buffer_lifetimes(const Program& program);

}  // namespace hvl
