#include "csrc/model/integer_arrays.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "csrc/base/error.h"
#include "kernels/common/fixed.h"

namespace hvl {
namespace {

enum class Format { kActivation, kScaled };

size_t aligned(size_t bytes) { return (bytes + 127) / 128 * 128; }

int32_t scaled_word(float value) {
  if (value == 0.0f) return fixed::scaled(0, fixed::kNoScale);
  int exponent;
  auto mantissa = int32_t(std::lround(std::frexp(value, &exponent) * 32768.0f));  // 2^14 .. 2^15 in magnitude
  if (mantissa == 32768 || mantissa == -32768) {
    mantissa /= 2;
    ++exponent;
  }
  return fixed::scaled(mantissa, exponent - 15);
}

int32_t activation_word(float value, const std::string& name) {
  const double units = std::floor(double(value) * (1 << fixed::kFraction) + 0.5);
  if (!(std::fabs(units) <= std::numeric_limits<int32_t>::max())) {
    fail(ErrorKind::kCheckpoint, name, ": the integer arithmetic holds values within +-65536, got ", value);
  }
  return int32_t(units);
}

// Weights, by number, that ops read as arrays.
std::map<size_t, Format> arrays_of(const Program& program) {
  std::map<size_t, Format> found;
  for (const ProgramSection& section : program.sections) {
    const auto note = [&](WeightId slot, Format format) {
      for (int32_t r = 0; slot != kNone && r < section.repeat; ++r) {
        found[size_t(section.first_weight) + size_t(r) * section.weight_slots + slot] = format;
      }
    };
    for (int32_t o = section.first_op; o < section.first_op + section.op_count; ++o) {
      const Op& op = program.ops[o];
      if (op.kind == OpKind::kNorm || op.kind == OpKind::kRope) note(op.weight[0], Format::kScaled);
      if (op.kind == OpKind::kNorm || op.kind == OpKind::kLinear) note(op.weight[1], Format::kActivation);
      if (op.kind == OpKind::kLinear) note(op.weight[2], Format::kActivation);
    }
  }
  return found;
}

}  // namespace

Arena convert_arrays(const Program& program, std::vector<ResolvedWeight>& weights) {
  const std::map<size_t, Format> arrays = arrays_of(program);
  size_t bytes = 0;
  for (const auto& entry : arrays) bytes += aligned(weights[entry.first].bytes);
  Arena memory(bytes);
  uint8_t* at = memory.data();
  for (const auto& [index, format] : arrays) {
    ResolvedWeight& weight = weights[index];
    const auto* from = static_cast<const float*>(weight.data);
    auto* to = reinterpret_cast<int32_t*>(at);
    for (size_t i = 0; i < weight.bytes / sizeof(float); ++i) {
      if (!std::isfinite(from[i])) fail(ErrorKind::kCheckpoint, program.weights[index], ": expected finite values, got ", from[i]);
      to[i] = format == Format::kScaled ? scaled_word(from[i]) : activation_word(from[i], program.weights[index]);
    }
    weight.data = at;
    at += aligned(weight.bytes);
  }
  return memory;
}

int32_t rotation_word(double value) {
  const double units = std::floor(value * 2147483648.0 + 0.5);
  return units > fixed::kMost ? fixed::kMost : int32_t(units);
}

void activations_to_floats(float* values, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    int32_t units;
    std::memcpy(&units, values + i, sizeof units);
    values[i] = float(units) * (1.0f / (1 << fixed::kFraction));
  }
}

}  // namespace hvl
