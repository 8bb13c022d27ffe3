// time_kernel: how fast this machine runs the engine's own kernels, moves memory and hands out work, on made-up operands. What a cpu
// HardwareSpec is calibrated with (python/hypervl_engine/hardware/calibrate.py).
#include <pybind11/pybind11.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "csrc/base/arena.h"
#include "csrc/base/cpu_info.h"
#include "csrc/base/error.h"
#include "csrc/base/thread_pool.h"
#include "csrc/bindings/bindings.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;

namespace {

constexpr int64_t kMaxBytes = int64_t{2} << 30;  // of all operands of one measurement
constexpr int64_t kMaxHeadDim = 256;
// Every byte of every operand: 0.011 as a float, 1.06 as a half, 60 as a byte. No NaN and no subnormal, which would slow a machine down.
constexpr int kFill = 0x3c;

// The numbers a caller gave by name. Every kind takes its own; what is left over at the end is a mistake.
class Shape {
 public:
  Shape(std::string kind, const py::kwargs& given) : kind_(std::move(kind)) {
    for (const auto& [name, value] : given) {
      const auto key = name.cast<std::string>();
      if (!py::isinstance<py::int_>(value)) {
        fail(ErrorKind::kValue, "time_kernel('", kind_, "'): ", key, " is ", std::string(py::repr(value)), ": expected a whole number");
      }
      int overflow = 0;
      const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
      given_[key] = overflow ? std::numeric_limits<long long>::max() : number;
    }
  }

  int64_t take(const char* name, int64_t low, int64_t high, int64_t otherwise = -1) {
    const auto at = given_.find(name);
    if (at == given_.end()) {
      if (otherwise >= 0) return otherwise;
      fail(ErrorKind::kValue, "time_kernel('", kind_, "'): ", name, " is missing: expected ", low, " to ", high);
    }
    const int64_t value = at->second;
    given_.erase(at);
    if (value < low || value > high)
      fail(ErrorKind::kValue, "time_kernel('", kind_, "'): ", name, " is ", value, ": expected ", low, " to ", high);
    return value;
  }
  int32_t size(const char* name, int64_t otherwise = -1) { return int32_t(take(name, 1, 1 << 20, otherwise)); }
  int32_t one_of(const char* name, std::initializer_list<int64_t> values, int64_t otherwise = -1) {
    const int64_t value = take(name, 0, 1 << 20, otherwise);
    if (std::find(values.begin(), values.end(), value) == values.end()) {
      std::string expected;
      for (int64_t v : values) expected.append(" ").append(std::to_string(v));
      fail(ErrorKind::kValue, "time_kernel('", kind_, "'): ", name, " is ", value, ": expected one of", expected);
    }
    return int32_t(value);
  }
  void check_all_taken() const {
    if (!given_.empty()) fail(ErrorKind::kValue, "time_kernel('", kind_, "'): '", given_.begin()->first, "' is not one of its numbers");
  }

 private:
  std::string kind_;
  std::map<std::string, int64_t> given_;
};

// A kernel with its operands: `run` does all of it once, `repeats` equal parts of which one is asked for. `prepare`, if any, comes before
// every run and is not timed.
struct Work {
  std::function<void(ThreadPool&)> run;
  double repeats = 1;
  std::function<void(ThreadPool&)> prepare = nullptr;
};

// Every thread sums its share.
void sum_words(ThreadPool& pool, const uint64_t* from, int64_t words) {
  constexpr int32_t kParts = 256;
  pool.parallel_for(kParts, [&](int32_t begin, int32_t end) {
    const uint64_t* p = from + words * begin / kParts;
    const int64_t n = words * end / kParts - words * begin / kParts;
    uint64_t sum[8] = {};
    for (int64_t i = 0; i + 8 <= n; i += 8) {
      for (int j = 0; j < 8; ++j) sum[j] += p[i + j];
    }
    for (int j = 0; j < 8; ++j) asm volatile("" ::"r"(sum[j]));
  });
}

// Operands of one measurement; the memory lives as long as this does.
class Operands {
 public:
  template <typename T>
  T* array(int64_t count) {
    const int64_t bytes = count * int64_t(sizeof(T));
    total_ += bytes;
    if (total_ > kMaxBytes) fail(ErrorKind::kMemory, "time_kernel: the operands take more than ", kMaxBytes, " bytes");
    blocks_.emplace_back(size_t(bytes));
    std::memset(blocks_.back().data(), kFill, size_t(bytes));
    return reinterpret_cast<T*>(blocks_.back().data());
  }

  // (rows, cols) that the op before has written: by columns, as linear layers do, so that a part lies in the cache of another core.
  template <typename T>
  T* input(int64_t rows, int64_t cols) {
    T* data = array<T>(rows * cols);
    inputs_.push_back({reinterpret_cast<uint8_t*>(data), rows, cols * int64_t(sizeof(T))});
    return data;
  }
  // `cold` (0 or 1): and that has left the caches of single cores since, as when weights pass through them.
  Work after_inputs(Shape& shape, Work work) {
    const int64_t passing = shape.one_of("cold", {0, 1}, 0) ? kPassingBytes / 8 : 0;
    const uint64_t* from = passing ? array<uint64_t>(passing) : nullptr;
    work.prepare = [inputs = inputs_, passing, from](ThreadPool& pool) {
      for (const Input& in : inputs) {
        pool.parallel_for(int32_t((in.row_bytes + kColumnBytes - 1) / kColumnBytes), [&](int32_t begin, int32_t end) {
          const int64_t from = begin * kColumnBytes, to = std::min(end * kColumnBytes, in.row_bytes);
          for (int64_t r = 0; r < in.rows; ++r) std::memset(in.data + r * in.row_bytes + from, kFill, size_t(to - from));
        });
      }
      for (int i = 0; passing && i < pool.threads(); ++i) sum_words(pool, from, passing);
    };
    return work;
  }

 private:
  static constexpr int64_t kPassingBytes = 4 << 20;
  static constexpr int64_t kColumnBytes = kLinearRowBlock * sizeof(float);
  struct Input {
    uint8_t* data;
    int64_t rows, row_bytes;
  };
  std::deque<Arena> blocks_;
  std::vector<Input> inputs_;
  int64_t total_ = 0;
};

template <typename Args>
Work launch(void (*kernel)(const Args&, int32_t, int32_t) noexcept, const Args& args, int32_t units) {
  return {[=](ThreadPool& pool) { pool.parallel_for(units, [&](int32_t begin, int32_t end) { kernel(args, begin, end); }); }};
}

QuantizedRows quantized(Operands& operands, int32_t rows, int32_t cols, int32_t group_size, int32_t bits) {
  return quantized_rows_at(operands.array<uint8_t>(int64_t(quantized_rows_layout(rows, cols, group_size, bits).bytes)), rows, cols,
                           group_size, bits);
}

KvCache kv_cache(Operands& operands, int32_t kv_heads, int32_t head_dim, int32_t keys, int32_t bits) {
  const int64_t side = kv_side_bytes(kv_heads, head_dim, keys, bits), block = kv_block_bytes(head_dim, bits);
  uint8_t* k = operands.array<uint8_t>(2 * side);
  for (int64_t at = 0; at < 2 * side; at += block) std::fill_n(reinterpret_cast<float*>(k + at), kKvKeyBlock, 1.0f);  // scales
  return {k, k + side, kv_heads, head_dim, kv_padded_keys(keys), bits};
}

VrcRequant requant(Operands& operands, int32_t channels) {
  int32_t* shift = operands.array<int32_t>(channels);
  std::fill_n(shift, channels, 38);
  return {operands.array<int32_t>(channels), operands.array<int32_t>(channels), shift};
}

int32_t lanes(Shape& shape, const char* name) { return (shape.size(name) + kVrcLanes - 1) / kVrcLanes * kVrcLanes; }

constexpr std::initializer_list<int64_t> kGroupSizes = {32, 64, 128, 256, 384, 512};

// `copies` > 1: as many weights of this shape, one after another, so that they come from memory and not from a cache.
Work linear(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const int32_t tokens = shape.size("rows"), outputs = shape.size("outputs"), inputs = shape.size("inputs");
  const int32_t group_size = shape.one_of("group_size", kGroupSizes, 128);
  const LinearWeight like{nullptr, outputs, inputs, shape.one_of("weight_bits", {4, 8}), group_size, 16};
  if (!linear_group_fits(like)) fail(ErrorKind::kValue, "time_kernel('linear'): group_size is ", group_size, ": expected 128 or less with 4 bits");
  const int32_t bits = shape.one_of("activation_bits", {8, 16}), copies = shape.size("copies", 1);
  const QuantizedRows x = quantized(operands, tokens, inputs, group_size, bits);
  float* out = operands.array<float>(int64_t(tokens) * outputs);
  const uint8_t* data = operands.array<uint8_t>(int64_t(linear_bytes(like)) * copies);
  const auto run = [=, &kernels](ThreadPool& pool) {
    for (int32_t c = 0; c < copies; ++c) {
      LinearWeight weight = like;
      weight.data = data + c * linear_bytes(like);
      const LinearArgs args{x, weight, nullptr, nullptr, out, outputs};
      pool.parallel_for(linear_row_blocks(weight), [&](int32_t begin, int32_t end) { kernels.linear(args, begin, end); });
    }
  };
  return {run, double(copies)};
}

Work quantize(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const int32_t rows = shape.size("rows"), cols = shape.size("cols");
  const float* x = operands.input<float>(rows, cols);
  const int32_t group_size = shape.one_of("group_size", kGroupSizes, 128), bits = shape.one_of("activation_bits", {8, 16});
  const QuantizeArgs args{x, cols, quantized(operands, rows, cols, group_size, bits)};
  return operands.after_inputs(shape, launch(kernels.quantize, args, rows));
}

Work quantize_i16(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const int32_t rows = shape.size("rows"), cols = shape.size("cols");
  const int16_t* x = operands.array<int16_t>(int64_t(rows) * cols);
  return launch(kernels.quantize_i16, QuantizeI16Args{x, 0.01f, quantized(operands, rows, cols, 128, 16)}, rows);
}

Work norm(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const int32_t rows = shape.size("rows"), cols = shape.size("cols");
  const NormKind kind = shape.one_of("layer_norm", {0, 1}) ? NormKind::kLayer : NormKind::kRms;
  const float *x = operands.input<float>(rows, cols), *weight = operands.array<float>(cols);
  const NormArgs args{x, cols, weight, weight, operands.array<float>(int64_t(rows) * cols), cols, rows, cols, 1e-6f, kind};
  return operands.after_inputs(shape, launch(kernels.norm, args, rows));
}

// In place, as in a Program; so are the next two.
Work activation(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const int32_t rows = shape.size("rows"), cols = shape.size("cols");
  const auto kind = ActivationKind(shape.take("function", 0, int64_t(ActivationKind::kQuickGelu), int64_t(ActivationKind::kGeluTanh)));
  float* x = operands.input<float>(rows, cols);
  return operands.after_inputs(shape, launch(kernels.activation, ActivationArgs{x, x, rows, cols, kind}, rows));
}

Work silu_mul(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const int32_t rows = shape.size("rows"), cols = shape.size("cols");
  float *gate = operands.input<float>(rows, cols), *up = operands.input<float>(rows, cols);
  return operands.after_inputs(shape, launch(kernels.silu_mul, SiluMulArgs{gate, up, gate, rows, cols}, rows));
}

Work rope(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const int32_t rows = shape.size("rows"), heads = shape.size("heads");
  const auto head_dim = int32_t(shape.take("head_dim", 2, kMaxHeadDim)) / 2 * 2;
  float* x = operands.input<float>(rows, int64_t(heads) * head_dim);
  const float* weight = operands.array<float>(head_dim);
  const float* table = operands.array<float>(int64_t(rows) * head_dim / 2);
  const RopeArgs args{x, int64_t(heads) * head_dim, weight, 1e-6f, table, table, 0, rows, heads, head_dim};
  return operands.after_inputs(shape, launch(kernels.rope, args, rows));
}

Work kv_store(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const int32_t rows = shape.size("rows"), kv_heads = shape.size("kv_heads");
  const auto head_dim = int32_t(shape.take("head_dim", 1, kMaxHeadDim));
  const KvCache cache = kv_cache(operands, kv_heads, head_dim, rows, shape.one_of("bits", {8, 16}));
  const int64_t cols = int64_t(kv_heads) * head_dim;
  const float *k = operands.input<float>(rows, cols), *v = operands.input<float>(rows, cols);
  return operands.after_inputs(shape, launch(kernels.kv_store, KvStoreArgs{k, v, cols, rows, 0, cache}, kv_heads));
}

// Query rows are the last ones of `keys`.
Work attention(const KernelTable& kernels, Shape& shape, Operands& operands, int threads) {
  const int32_t rows = shape.size("rows"), heads = shape.size("heads"), kv_heads = shape.size("kv_heads", heads);
  const auto head_dim = int32_t(shape.take("head_dim", 1, kMaxHeadDim));
  const auto keys = int32_t(shape.take("keys", rows, 1 << 20));
  const bool causal = shape.one_of("causal", {0, 1}) != 0;
  if (heads % kv_heads != 0)
    fail(ErrorKind::kValue, "time_kernel('attention'): heads is ", heads, ": expected a multiple of kv_heads, ", kv_heads);
  const KvCache cache = kv_cache(operands, kv_heads, head_dim, keys, shape.one_of("bits", {8, 16}));
  const int64_t stride = int64_t(heads) * head_dim;
  AttentionArgs args{};
  args.q = operands.input<float>(rows, stride);
  args.out = operands.array<float>(rows * stride);
  args.q_stride = args.out_stride = stride;
  args.cache = cache;
  args.activation_bits = shape.one_of("activation_bits", {8, 16}, cache.bits);
  args.rows = rows;
  args.heads = heads;
  args.position = keys - rows;
  args.key_end = keys;
  args.causal = causal;
  args.first = args.last = true;
  args.scale = 0.1f;
  const int64_t scratch_bytes = attention_scratch_bytes(head_dim);
  uint8_t* scratch = operands.array<uint8_t>(scratch_bytes * threads);
  const auto run = [=, &kernels](ThreadPool& pool) {
    pool.parallel_for_indexed(attention_units(rows, heads), [&](int thread, int32_t begin, int32_t end) {
      AttentionArgs own = args;
      own.scratch = scratch + thread * scratch_bytes;
      kernels.attention(own, begin, end);
    });
  };
  return operands.after_inputs(shape, {run});
}

Work embed(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const int32_t rows = shape.size("rows"), cols = shape.size("cols");
  LinearWeight weight{nullptr, rows, cols, 4, shape.one_of("group_size", {32, 64, 128}, 128), 16};
  weight.data = operands.array<uint8_t>(int64_t(linear_bytes(weight)));
  int32_t* ids = operands.array<int32_t>(rows);
  for (int32_t r = 0; r < rows; ++r) ids[r] = r;
  return launch(kernels.embed, EmbedArgs{weight, ids, operands.array<float>(int64_t(rows) * cols), cols, rows}, rows);
}

Work pixel_shuffle(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const auto side = int32_t(shape.take("side", 2, 1 << 10)) / 2 * 2;
  const int32_t cols = shape.size("cols");
  const float* x = operands.input<float>(int64_t(side) * side, cols);
  const PixelShuffleArgs args{x, operands.array<float>(int64_t(side) * side * cols), side, side, cols, 2};
  return operands.after_inputs(shape, launch(kernels.pixel_shuffle, args, side * side / 4));
}

Work patchify(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const auto side = int32_t(shape.take("side", 1, 1 << 10)), patch = int32_t(shape.take("patch", 1, 64));
  const int64_t pixels = int64_t(side) * patch * side * patch;
  const uint8_t* image = operands.array<uint8_t>(3 * pixels);
  const int16_t* table = operands.array<int16_t>(3 * 257);
  return launch(kernels.patchify,
                PatchifyArgs{image, side * patch, side * patch, 0, 0, side, side, patch, table, operands.array<int16_t>(3 * pixels)}, side);
}

Work vrc_stem(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const auto side = int32_t(shape.take("side", 2, 1 << 12));
  const int32_t channels = lanes(shape, "channels"), out = (side + 1) / 2;
  const uint8_t* in = operands.array<uint8_t>(int64_t(side) * side * 3);
  const int8_t* weight = operands.array<int8_t>(int64_t(channels) * 9 * 4);
  return launch(kernels.vrc_stem,
                VrcStemArgs{in, operands.array<uint8_t>(int64_t(out) * out * channels), side, side, out, out, channels, weight,
                            requant(operands, channels)},
                out);
}

Work vrc_depthwise(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const auto side = int32_t(shape.take("side", 1, 1 << 12)), stride = int32_t(shape.take("stride", 1, 2));
  const int32_t channels = lanes(shape, "channels"), out = (side - 1) / stride + 1;
  const uint8_t* in = operands.array<uint8_t>(int64_t(side) * side * channels);
  const int8_t* weight = operands.array<int8_t>(int64_t(channels) * 9);
  const VrcDepthwiseArgs args{in,
                              operands.array<uint8_t>(int64_t(out) * out * channels),
                              side,
                              side,
                              out,
                              out,
                              channels,
                              stride,
                              0,
                              weight,
                              requant(operands, channels)};
  return launch(kernels.vrc_depthwise, args, out);
}

Work vrc_pointwise(const KernelTable& kernels, Shape& shape, Operands& operands) {
  const int32_t pixels = shape.size("pixels"), inputs = lanes(shape, "inputs"), channels = lanes(shape, "channels");
  const uint8_t* in = operands.array<uint8_t>(int64_t(pixels) * inputs);
  const int8_t* weight = operands.array<int8_t>(int64_t(channels) * inputs);
  const VrcPointwiseArgs args{in,         operands.array<uint8_t>(int64_t(pixels) * channels),
                              pixels,     inputs,
                              inputs / 4, channels,
                              weight,     requant(operands, channels),
                              0,          nullptr,
                              0,          0};
  return launch(kernels.vrc_pointwise, args, vrc_pointwise_units(args));
}

Work read_memory(Shape& shape, Operands& operands) {
  const int64_t words = shape.take("bytes", 1 << 16, kMaxBytes) / 8;
  const uint64_t* from = operands.array<uint64_t>(words);
  return {[=](ThreadPool& pool) { sum_words(pool, from, words); }};
}

// `block` bytes at a time, one after another out of `bytes`, into two slots in turn: what a transfer from DDR into fast memory is.
Work copy_memory(Shape& shape, Operands& operands) {
  const int64_t bytes = shape.take("bytes", 1 << 16, kMaxBytes / 2), block = shape.take("block", 64, 1 << 26);
  if (block > bytes) fail(ErrorKind::kValue, "time_kernel('copy'): block is ", block, ": expected at most bytes, ", bytes);
  const uint8_t* from = operands.array<uint8_t>(bytes);
  uint8_t* to = operands.array<uint8_t>(2 * block);
  const int64_t count = bytes / block;
  const auto run = [=](ThreadPool&) {
    for (int64_t i = 0; i < count; ++i) std::memcpy(to + (i & 1) * block, from + i * block, size_t(block));
  };
  return {run, double(count)};
}

// One handing out of nothing to all threads, timed as a step of a traced run is: what a step costs whatever it does.
Work launch_nothing() {
  constexpr int kLaunches = 64;
  const auto run = [](ThreadPool& pool) {
    for (int i = 0; i < kLaunches; ++i) {
      const auto from = std::chrono::steady_clock::now();
      pool.parallel_for(4 * pool.threads(), [](int32_t, int32_t) {});
      const auto duration = std::chrono::steady_clock::now() - from;
      asm volatile("" ::"r"(duration.count()));
    }
  };
  return {run, kLaunches};
}

// One clock cycle: additions that wait for each other.
Work cycle() {
  constexpr int kRounds = 1 << 14, kAdditions = 16;
  const auto run = [](ThreadPool&) {
    uint64_t x = 1, y = 3;
    for (int i = 0; i < kRounds; ++i) {
      for (int j = 0; j < kAdditions; ++j) {
        x += y;
        asm volatile("" : "+r"(x), "+r"(y));  // one addition stays one instruction
      }
    }
  };
  return {run, double(kRounds) * kAdditions};
}

Work make_work(const std::string& kind, const KernelTable& kernels, Shape& shape, Operands& operands, int threads) {
  if (kind == "launch") return launch_nothing();
  if (kind == "cycle") return cycle();
  if (kind == "read") return read_memory(shape, operands);
  if (kind == "copy") return copy_memory(shape, operands);
  if (kind == "attention") return attention(kernels, shape, operands, threads);
#define HVL_KIND(name) \
  if (kind == #name) return name(kernels, shape, operands);
  HVL_KIND(linear)
  HVL_KIND(quantize)
  HVL_KIND(quantize_i16)
  HVL_KIND(norm)
  HVL_KIND(activation)
  HVL_KIND(silu_mul)
  HVL_KIND(rope)
  HVL_KIND(kv_store)
  HVL_KIND(embed)
  HVL_KIND(pixel_shuffle)
  HVL_KIND(patchify)
  HVL_KIND(vrc_stem)
  HVL_KIND(vrc_depthwise)
  HVL_KIND(vrc_pointwise)
#undef HVL_KIND
  fail(ErrorKind::kValue, "time_kernel: there is no kind '", kind, "'; see _core.pyi");
}

double seconds_of(const Work& work, ThreadPool& pool, int times) {
  if (work.prepare) {
    std::chrono::steady_clock::duration spent{};
    for (int i = 0; i < times; ++i) {
      work.prepare(pool);
      const auto start = std::chrono::steady_clock::now();
      work.run(pool);
      spent += std::chrono::steady_clock::now() - start;
    }
    return std::chrono::duration<double>(spent).count() / times;
  }
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < times; ++i) work.run(pool);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / times;
}

// The best of `runs` runs of at least `run_seconds` each: whatever else the machine does can only slow a run down.
double time_kernel(const std::string& kind, int threads, int runs, double run_seconds, const py::kwargs& numbers) {
  if (threads < 1 || threads > 1024) fail(ErrorKind::kValue, "time_kernel: threads is ", threads, ": expected 1 to 1024");
  if (runs < 1 || runs > 1000) fail(ErrorKind::kValue, "time_kernel: runs is ", runs, ": expected 1 to 1000");
  if (!(run_seconds >= 0 && run_seconds <= 60)) fail(ErrorKind::kValue, "time_kernel: run_seconds is ", run_seconds, ": expected 0 to 60");
  Shape shape(kind, numbers);
  Operands operands;
  const Work work = make_work(kind, kernel_table(selected_isa()), shape, operands, threads);
  shape.check_all_taken();
  py::gil_scoped_release release;
  ThreadPool pool(threads);
  seconds_of(work, pool, 1);
  const double once = std::max(seconds_of(work, pool, 1), 1e-9);
  const int times = int(std::clamp(run_seconds / once, 1.0, 1e6));
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < runs; ++i) best = std::min(best, seconds_of(work, pool, times));
  return best / work.repeats;
}

}  // namespace

void bind_microbenchmark(py::module_& m) {
  m.def("time_kernel", &time_kernel, py::arg("kind"), py::arg("threads"), py::kw_only(), py::arg("runs") = 5,
        py::arg("run_seconds") = 2e-3);
}
