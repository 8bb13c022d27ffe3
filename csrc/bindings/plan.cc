// Plans as plain Python data, and the scheduler over Programs.
#include "csrc/bindings/plan.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/base/hash.h"
#include "csrc/bindings/bindings.h"
#include "csrc/model/model.h"
#include "csrc/schedule/access.h"
#include "csrc/schedule/scheduler.h"
#include "kernels/kv_store/kv_store.h"

namespace py = pybind11;
using namespace hvl;

namespace {

constexpr const char* kHomes[] = {"none", "resident", "ddr", "bound"};

std::string shown(const py::handle& value) {
  const auto text = std::string(py::repr(value));
  return text.size() <= 80 ? text : text.substr(0, 80) + "...";
}

// The fields of each struct, in one list for writing and reading: f(name, field).
template <typename T, typename F>
void fields(T& t, const F& f) {
  using S = std::remove_const_t<T>;
  if constexpr (std::is_same_v<S, PlanGroup>) {
    f("section", t.section), f("first_op", t.first_op), f("op_count", t.op_count), f("block_rows", t.block_rows);
  } else if constexpr (std::is_same_v<S, PlanOp>) {
    f("block_units", t.block_units), f("block_keys", t.block_keys), f("scratch_offset", t.scratch_offset),
        f("scratch_bytes", t.scratch_bytes);
  } else if constexpr (std::is_same_v<S, BufferPlan>) {
    f("home", t.home), f("offset", t.offset);
  } else if constexpr (std::is_same_v<S, Window>) {
    f("group", t.group), f("buffer", t.buffer), f("offset", t.offset), f("bytes", t.bytes);
  } else {
    static_assert(std::is_same_v<S, Plan>);
    f("version", t.version), f("program", t.program), f("spec", t.spec), f("staged", t.staged), f("contexts", t.contexts);
    f("budget", t.budget), f("peak_bytes", t.peak_bytes), f("ddr_bytes", t.ddr_bytes);
    f("ring_offset", t.ring_offset), f("ring_slot_bytes", t.ring_slot_bytes);
    f("groups", t.groups), f("ops", t.ops), f("buffers", t.buffers), f("windows", t.windows);
  }
}

struct Writer {
  template <typename T>
  static py::object write(const T& value) {
    if constexpr (std::is_same_v<T, Home>) {
      return py::str(kHomes[static_cast<int>(value)]);
    } else if constexpr (std::is_same_v<T, uint64_t>) {
      return py::str(hex16(value));
    } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
      return py::cast(value);
    } else {
      return list(value);
    }
  }
  template <typename T>
  static py::object list(const std::vector<T>& values) {
    py::list out;
    for (const T& value : values) out.append(dict(value));
    return out;
  }
  template <typename T>
  static py::dict dict(const T& value) {
    py::dict out;
    fields(value, [&](const char* name, const auto& field) { out[name] = write(field); });
    return out;
  }
};

// Reads what Writer wrote; whatever does not fit is an Error(kValue) naming the place.
struct Reader {
  std::string where;

  [[noreturn]] void bad(const char* expected, const py::handle& got) const {
    fail(ErrorKind::kValue, where, ": expected ", expected, ", got ", shown(got));
  }

  std::string string(const py::handle& value, const char* expected) const {
    if (!py::isinstance<py::str>(value)) bad(expected, value);
    try {
      return value.cast<std::string>();
    } catch (const py::cast_error&) {  // half a surrogate pair
      bad(expected, value);
    }
  }

  template <typename T>
  void read(const py::handle& value, T& to) const {
    if constexpr (std::is_same_v<T, bool>) {
      if (!py::isinstance<py::bool_>(value)) bad("true or false", value);
      to = value.cast<bool>();
    } else if constexpr (std::is_same_v<T, uint64_t>) {
      const std::string text = string(value, "16 hexadecimal digits");
      if (text.size() != 16 || text.find_first_not_of("0123456789abcdef") != std::string::npos) bad("16 hexadecimal digits", value);
      to = std::strtoull(text.c_str(), nullptr, 16);
    } else if constexpr (std::is_integral_v<T>) {
      if (!py::isinstance<py::int_>(value) || py::isinstance<py::bool_>(value)) bad("a whole number", value);
      int overflow = 0;
      const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
      if (overflow || number < std::numeric_limits<T>::min() || number > std::numeric_limits<T>::max())
        bad("a smaller whole number", value);
      to = static_cast<T>(number);
    } else if constexpr (std::is_same_v<T, std::string>) {
      to = string(value, "text");
    } else if constexpr (std::is_same_v<T, Home>) {
      const auto* end = std::end(kHomes);
      const auto* found = std::find(std::begin(kHomes), end, string(value, "none, resident, ddr or bound"));
      if (found == end) bad("none, resident, ddr or bound", value);
      to = static_cast<Home>(found - kHomes);
    } else {
      list(value, to);
    }
  }
  template <typename T>
  void list(const py::handle& value, std::vector<T>& to) const {
    if (!py::isinstance<py::list>(value)) bad("a list", value);
    const auto items = value.cast<py::list>();
    for (size_t i = 0; i < items.size(); ++i) {
      to.emplace_back();
      Reader{where + "[" + std::to_string(i) + "]"}.dict(items[i], to.back());
    }
  }
  template <typename T>
  void dict(const py::handle& value, T& to) const {
    if (!py::isinstance<py::dict>(value)) bad("an object", value);
    const auto d = value.cast<py::dict>();
    size_t count = 0;
    fields(to, [&](const char* name, auto& field) {
      ++count;
      if (!d.contains(name)) fail(ErrorKind::kValue, where, ".", name, ": expected a value, got nothing");
      Reader{where + "." + name}.read(d[name], field);
    });
    if (d.size() != count) fail(ErrorKind::kValue, where, ": expected ", count, " fields, got ", d.size());
  }
};

Plan plan_made(const Program& program, const py::dict& spec, const std::optional<int64_t>& budget) {
  const HardwareSpec machine = spec_from(spec);
  py::gil_scoped_release release;
  return make_plan(program, machine, budget.value_or(machine.budget()));
}

// Bytes of the KV caches that the runs of a Program share: one for each repetition of the section that uses a state.
int64_t state_bytes(const Program& program) {
  std::vector<int64_t> bytes(program.states.size(), 0);
  for (size_t o = 0; o < program.ops.size(); ++o) {
    const StateId id = program.ops[o].state;
    if (id == kNone) continue;
    const StateShape& s = program.states[id];
    bytes[id] = 2 * kv_side_bytes(s.kv_heads, s.head_dim, s.capacity, s.bits) * section_of(program, int32_t(o)).repeat;
  }
  return std::accumulate(bytes.begin(), bytes.end(), int64_t(0));
}

// Of the buffers that the caller of a run provides, by name.
std::map<std::string, int64_t> bound_bytes(const Program& program) {
  std::map<std::string, int64_t> bytes;
  for (const Buffer& b : program.buffers) {
    if (b.space == Space::kBound) bytes[b.name] = int64_t(b.bytes());
  }
  return bytes;
}

// What an image of tiles of these sizes runs, in order, with the plans the model itself uses: (stage, Program, plan).
py::list model_programs(const Model& model, const std::string& branch, const std::vector<std::pair<int32_t, int32_t>>& tiles,
                        int32_t context_length) {
  py::list out;
  const auto add = [&](const std::string& stage, const Executable& executable) {
    out.append(py::make_tuple(stage, std::make_shared<Program>(executable.program), plan_dict(executable.plan)));
  };
  if (model.vrc()) add("vrc", model.vrc()->executable());
  for (const auto& [height, width] : tiles) {
    const std::string size = std::to_string(height) + "x" + std::to_string(width);
    const TileExecutables& tile = model.tile(branch, height, width);
    add("tile " + size, tile.tower);
    add("projector " + size, tile.projector);
  }
  add("prefill", model.text_layers(context_length, kPrefillChunk));
  add("decode", model.text_layers(context_length, 1));
  add("head", model.text_head());
  return out;
}

// Tells checkpoints apart: the config, and every tensor's name, shape and some of its bytes (all of them are checked when a file is
// loaded).
std::string model_fingerprint(const Model& model) {
  std::string text = model.weights().config_json();
  for (const StoredTensor& t : model.weights().tensors()) {
    text += t.name + "|" + t.dtype;
    for (int64_t side : t.shape) text += " " + std::to_string(side);
    const size_t piece = std::min<size_t>(t.bytes, 256);
    for (size_t at : {size_t(0), (t.bytes - piece) / 2, t.bytes - piece}) text.append(reinterpret_cast<const char*>(t.data) + at, piece);
  }
  return hex16(hash64(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

}  // namespace

std::string hex16(uint64_t value) {
  std::string text(16, '0');
  for (int i = 15; i >= 0; --i, value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

py::dict plan_dict(const Plan& plan) { return Writer::dict(plan); }

Plan plan_parsed(const py::dict& values) {
  Plan plan;
  // Of another version the fields may be others: this comes first.
  if (values.contains("version")) Reader{"plan.version"}.read(values["version"], plan.version);
  if (plan.version != kPlanVersion)
    fail(ErrorKind::kValue, "the plan is of version ", plan.version, ", this engine runs version ", kPlanVersion, ": plan again");
  Reader{"plan"}.dict(values, plan);
  return plan;
}

Plan plan_from(const py::dict& values, const Program& program) {
  Plan plan = plan_parsed(values);
  if (plan.program != program_hash(program)) {
    fail(ErrorKind::kValue, "the plan was made for another program than ", program.name, " (", hex16(plan.program), ", not ",
         hex16(program_hash(program)), "): plan again");
  }
  check_plan(program, plan);
  return plan;
}

void bind_plan(py::module_& m) {
  m.attr("PLAN_VERSION") = kPlanVersion;
  m.attr("PREFILL_CHUNK") = kPrefillChunk;

  py::class_<Program, std::shared_ptr<Program>>(m, "Program")
      .def_readonly("name", &Program::name)
      .def_property_readonly("hash", [](const Program& program) { return hex16(program_hash(program)); })
      .def_property_readonly("state_bytes", &state_bytes)
      .def_property_readonly("bound_bytes", &bound_bytes);

  m.def(
      "make_plan",
      [](const Program& program, const py::dict& spec, std::optional<int64_t> budget) {
        return plan_dict(plan_made(program, spec, budget));
      },
      py::arg("program"), py::arg("spec"), py::arg("budget") = py::none());
  m.def(
      "smallest_budget",
      [](const Program& program, const py::dict& spec) {
        const HardwareSpec machine = spec_from(spec);
        py::gil_scoped_release release;
        return smallest_budget(program, machine);
      },
      py::arg("program"), py::arg("spec"));
  m.def("check_plan", [](const Program& program, const py::dict& plan) { plan_from(plan, program); }, py::arg("program"), py::arg("plan"));
  m.def(
      "plan_hash", [](const Program& program, const py::dict& plan) { return hex16(plan_hash(plan_from(plan, program))); },
      py::arg("program"), py::arg("plan"));
  m.def("describe_plan", &describe_plan, py::arg("program"), py::arg("plan"), py::arg("spec"), py::kw_only(), py::arg("rows") = py::none(),
        py::arg("position") = py::none(), py::arg("events") = 0);
  m.def("model_programs", &model_programs, py::arg("model"), py::arg("branch"), py::arg("tiles"), py::arg("context_length"));
  m.def("model_fingerprint", &model_fingerprint, py::arg("model"));
  m.def(
      "tile_sizes",
      [](const Model& model, int32_t height, int32_t width, double scale) {
        std::vector<std::pair<int32_t, int32_t>> sizes;
        for (const Tile& tile : model.layout(height, width, scale).tiles) sizes.emplace_back(tile.height, tile.width);
        return sizes;
      },
      py::arg("model"), py::arg("height"), py::arg("width"), py::arg("scale"));
}
