// Plans, specs and reports as plain Python data.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "csrc/remote/wire.h"
#include "csrc/schedule/cost.h"
#include "csrc/schedule/hardware_spec.h"
#include "csrc/schedule/plan.h"

// A dict with `name`, `staged` and every figure (hypervl_engine.hardware.HardwareSpec.values()), checked. ValueError.
hvl::HardwareSpec spec_from(const pybind11::dict& values);

// Every field of a Plan; offsets and sizes as int, the Program's hash as 16 hexadecimal digits. plan_parsed reads what plan_dict
// wrote; plan_from also checks that it was made for the Program and holds (check_plan). ValueError.
pybind11::dict plan_dict(const hvl::Plan& plan);
hvl::Plan plan_parsed(const pybind11::dict& values);  // not yet checked against any Program
hvl::Plan plan_from(const pybind11::dict& values, const hvl::Program& program);

// What `hypervl-engine plan` shows of one Program (python/hypervl_engine/_core.pyi: PlanReport). rows and position default to the largest
// run.
pybind11::dict describe_plan(const hvl::Program& program, const pybind11::dict& plan, const pybind11::dict& spec,
                             std::optional<int32_t> rows, std::optional<int32_t> position, int32_t events);

// Events, predicted or measured, for a trace: dicts (_core.pyi: Event), times in microseconds.
pybind11::list event_list(const hvl::Program& program, const std::vector<hvl::TraceEvent>& events);

// What a program's ops took on another device, in their order.
pybind11::list op_counts(const hvl::Program& program, const std::vector<hvl::OpCounts>& counts);

std::string hex16(uint64_t value);
