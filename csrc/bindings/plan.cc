// Plans as plain Python data, and the scheduler over Programs.
#include "csrc/bindings/plan.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/bindings/bindings.h"
#include "csrc/schedule/scheduler.h"

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

  template <typename T>
  void read(const py::handle& value, T& to) const {
    if constexpr (std::is_same_v<T, bool>) {
      if (!py::isinstance<py::bool_>(value)) bad("true or false", value);
      to = value.cast<bool>();
    } else if constexpr (std::is_same_v<T, uint64_t>) {
      if (!py::isinstance<py::str>(value)) bad("16 hexadecimal digits", value);
      const auto text = value.cast<std::string>();
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
      if (!py::isinstance<py::str>(value)) bad("text", value);
      to = value.cast<std::string>();
    } else if constexpr (std::is_same_v<T, Home>) {
      const auto* end = std::end(kHomes);
      const auto* found = end;
      if (py::isinstance<py::str>(value)) found = std::find(std::begin(kHomes), end, value.cast<std::string>());
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
  const Plan plan = plan_parsed(values);
  if (plan.program != program_hash(program)) {
    fail(ErrorKind::kValue, "the plan was made for another program than ", program.name, " (", hex16(plan.program), ", not ",
         hex16(program_hash(program)), "): plan again");
  }
  check_plan(program, plan);
  return plan;
}

void bind_plan(py::module_& m) {
  m.attr("PLAN_VERSION") = kPlanVersion;

  py::class_<Program, std::shared_ptr<Program>>(m, "Program")
      .def_readonly("name", &Program::name)
      .def_property_readonly("hash", [](const Program& program) { return hex16(program_hash(program)); });

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
        py::arg("position") = py::none(), py::arg("events") = false);
}
