// Stretches of code whose instructions valgrind's callgrind counts (tools/instruction_counts.py).
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

namespace py = pybind11;

namespace {

// A request to the valgrind that runs this process; without one it does nothing. The five instructions are valgrind's interface: they
// leave every register as it was, and no compiler writes them.
void request(uint64_t code, uint64_t argument = 0) {
#if defined(__x86_64__)
  volatile uint64_t words[6] = {code, argument, 0, 0, 0, 0};
  uint64_t result = 0;
  asm volatile("rolq $3, %%rdi\n\trolq $13, %%rdi\n\trolq $61, %%rdi\n\trolq $51, %%rdi\n\txchgq %%rbx, %%rbx"
               : "+d"(result)
               : "a"(words)
               : "cc", "memory");
#else
  (void)code, (void)argument;
#endif
}

constexpr uint64_t kCallgrind = uint64_t{'C'} << 24 | uint64_t{'T'} << 16;
constexpr uint64_t kZero = kCallgrind + 1, kDumpAt = kCallgrind + 3, kStart = kCallgrind + 4, kStop = kCallgrind + 5;

// Calls `function` and has callgrind write what it took under that name.
void count_instructions(const std::string& name, const py::function& function) {
  request(kStart);
  request(kZero);
  function();
  request(kDumpAt, reinterpret_cast<uint64_t>(name.c_str()));
  request(kStop);
}

}  // namespace

void bind_callgrind(py::module_& m) {
  m.def("count_instructions", &count_instructions);
  m.attr("compiler") = HVL_COMPILER;
}
