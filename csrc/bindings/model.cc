// Model and Session.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/bindings/bindings.h"
#include "csrc/bindings/plan.h"
#include "csrc/model/session.h"

namespace py = pybind11;
using namespace hvl;

namespace {

using Pixels = py::array_t<uint8_t, py::array::c_style>;
using Ids = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;

ImageView view(const py::object& rgb) {
  if (!py::isinstance<Pixels>(rgb)) {
    fail(ErrorKind::kValue, "an image must be a C-contiguous uint8 array of shape (height, width, 3), got ", std::string(py::repr(py::type::of(rgb))));
  }
  const auto a = py::reinterpret_borrow<Pixels>(rgb);
  if (a.ndim() != 3 || a.shape(2) != 3 || a.shape(0) < 1 || a.shape(1) < 1 || a.shape(0) > (1 << 24) || a.shape(1) > (1 << 24)) {
    fail(ErrorKind::kValue, "an image must have shape (height, width, 3) with sides of 1 .. 2^24, got ", std::string(py::str(rgb.attr("shape"))));
  }
  return {a.data(), int32_t(a.shape(0)), int32_t(a.shape(1))};
}

py::array_t<float> matrix(const std::vector<float>& values, py::ssize_t cols) {
  return py::array_t<float>({py::ssize_t(values.size()) / cols, cols}, values.data());
}

bool on_main_thread() {
  const auto threading = py::module_::import("threading");
  return threading.attr("current_thread")().is(threading.attr("main_thread")());
}

// Runs a blocking call without the GIL; on the main thread Python's signal handlers (Ctrl-C) are served now and then.
template <typename Call>
auto blocking(Session& session, const Call& call) {
  const bool main = on_main_thread();
  py::gil_scoped_release release;
  if (main) {
    session.set_interrupt_check([] {
      py::gil_scoped_acquire acquire;
      return PyErr_CheckSignals() != 0;
    });
  }
  struct Clear {
    Session& session;
    ~Clear() { session.set_interrupt_check(nullptr); }
  } clear{session};
  return call();
}

std::vector<ImageInput> image_inputs(const py::sequence& images) {
  std::vector<ImageInput> out;
  for (const auto& item : images) {
    const auto pair = item.cast<std::pair<py::object, double>>();
    out.push_back({view(pair.first), pair.second});
  }
  return out;
}

py::object prefill(Session& session, const Ids& ids, const py::sequence& images, const std::string& branch, bool logits) {
  if (ids.ndim() != 1 || ids.shape(0) > (1 << 30)) fail(ErrorKind::kValue, "input_ids must have one axis, got ", ids.ndim());
  const std::vector<ImageInput> inputs = image_inputs(images);
  const std::string name = branch.empty() ? session.model().config().default_branch : branch;
  const auto count = int32_t(ids.shape(0));
  const int32_t* from = ids.data();
  const py::ssize_t vocab = session.model().config().text.vocab_size;
  py::array_t<float> out;
  Session::LogitsSink sink;
  if (logits) {
    out = py::array_t<float>({py::ssize_t(count), vocab});
    sink = [to = out.mutable_data(), vocab](int32_t first, int32_t rows, const float* values) {
      std::copy_n(values, rows * vocab, to + first * vocab);
    };
  }
  blocking(session, [&] { session.prefill(from, count, inputs, name, sink); });
  return logits ? py::object(out) : py::none();
}

py::dict sampled(const SampledToken& token) {
  py::dict out;
  out["id"] = token.id;
  out["logprob"] = token.logprob;
  out["top_logprobs"] = token.top_logprobs;
  return out;
}

py::list speculate(Session& session, int32_t token, int32_t most, const SamplingParams& params) {
  py::list out;
  for (const SampledToken& next : blocking(session, [&] { return session.speculate(token, most, params); })) out.append(sampled(next));
  return out;
}

// Binds a method that takes sampling parameters: method(session, leading arguments ..., *, temperature=, ...).
template <typename... Leading, typename Method, typename... Args>
void def_sampling(py::class_<Session>& cls, const char* name, const Method& method, const Args&... args) {
  cls.def(
      name,
      [method](Session& s, Leading... leading, double temperature, int32_t top_k, double top_p, double min_p, double repetition_penalty,
               int32_t logprobs, int32_t vocab_size) {
        return method(s, leading..., SamplingParams{temperature, top_k, top_p, min_p, repetition_penalty, logprobs, vocab_size});
      },
      args..., py::kw_only(), py::arg("temperature") = 0.0, py::arg("top_k") = 0, py::arg("top_p") = 1.0, py::arg("min_p") = 0.0,
      py::arg("repetition_penalty") = 1.0, py::arg("logprobs") = 0, py::arg("vocab_size") = 0);
}

py::dict stats(const Session& session) {
  const SessionStats& s = session.stats();
  py::dict out;
  out["vrc_ms"] = s.vrc_ms;
  out["preprocess_ms"] = s.preprocess_ms;
  out["encode_ms"] = s.encode_ms;
  out["project_ms"] = s.project_ms;
  out["prefill_ms"] = s.prefill_ms;
  out["decode_ms"] = s.decode_ms;
  out["tiles"] = s.tiles;
  out["visual_tokens"] = s.visual_tokens;
  out["prefill_tokens"] = s.prefill_tokens;
  out["decode_tokens"] = s.decode_tokens;
  out["drafted_tokens"] = s.drafted_tokens;
  out["accepted_tokens"] = s.accepted_tokens;
  const SessionMemory& m = session.memory();
  out["fast_budget_bytes"] = m.budget();
  out["fast_peak_bytes"] = m.measured_peak();
  out["fast_planned_bytes"] = m.planned_peak();
  out["ddr_bytes"] = m.ddr_bytes();
  out["block_bytes"] = m.block_bytes();
  out["arena_bytes"] = m.planned_peak() + m.ddr_bytes() + m.block_bytes();
  out["kv_cache_bytes"] = m.kv().bytes();
  out["image_bytes"] = session.image_bytes();
  out["transferred_in_bytes"] = session.transfers().bytes_in;
  out["transferred_out_bytes"] = session.transfers().bytes_out;
  return out;
}

// By name of a program: what its runs on another device took.
py::dict remote_counts(const Session& session) {
  py::dict out;
  if (!session.remote()) return out;
  for (const auto& [name, c] : session.remote()->counts()) {
    py::dict of;
    of["runs"] = c.runs;
    of["packets"] = c.packets;
    of["ops"] = c.program ? op_counts(*c.program, c.ops) : py::list();
    out[py::str(name)] = of;
  }
  return out;
}

py::list take_trace(Session& session) {
  py::list out;
  for (const auto& [executable, events] : session.take_trace()) {
    out.append(py::make_tuple(executable->program.name, event_list(executable->program, events)));
  }
  return out;
}

py::dict plan_image(const Model& model, int32_t height, int32_t width, double scale) {
  const ImageLayout layout = model.layout(height, width, scale);
  py::dict out;
  out["resized"] = py::make_tuple(layout.resized_height, layout.resized_width);
  out["tile_grid"] = py::make_tuple(layout.grid_rows, layout.grid_cols);
  out["tiles"] = layout.tiles.size();
  out["visual_tokens"] = layout.visual_tokens;
  out["thumbnail"] = layout.thumbnail;
  return out;
}

}  // namespace

void bind_model(py::module_& m) {
  py::class_<Model, std::shared_ptr<Model>>(m, "Model")
      .def(py::init([](const py::dict& config, std::shared_ptr<WeightStore> weights, int32_t threads, const py::dict& spec, int32_t activation_bits,
                       int32_t kv_bits, int64_t budget, int32_t context_length, std::vector<int> cpus, const py::list& plans, bool integer,
                       std::vector<std::string> remote_command, std::string remote_library, int32_t remote_arch, double remote_timeout_s,
                       int64_t remote_window_bytes) {
             ModelConfig c = model_config_from(config);
             const Arithmetic arithmetic = integer ? Arithmetic::kInteger : Arithmetic::kFloat;
             ModelOptions options{threads, activation_bits, kv_bits, arithmetic, spec_from(spec), budget, context_length, std::move(cpus), {},
                                  {std::move(remote_command), std::move(remote_library), remote_arch, remote_timeout_s, remote_window_bytes}};
             for (const auto& plan : plans) options.plans.push_back(plan_parsed(plan.cast<py::dict>()));
             py::gil_scoped_release release;
             return std::make_shared<Model>(std::move(c), std::move(weights), options);
           }),
           py::arg("config"), py::arg("weights"), py::kw_only(), py::arg("threads"), py::arg("spec"), py::arg("activation_bits") = 16,
           py::arg("kv_bits") = 16, py::arg("budget") = 0, py::arg("context_length") = 0, py::arg("cpus") = std::vector<int>(),
           py::arg("plans") = py::list(), py::arg("integer") = false,
           py::arg("remote_command") = std::vector<std::string>(), py::arg("remote_library") = "", py::arg("remote_arch") = 0,
           py::arg("remote_timeout_s") = RemoteOptions().timeout_s, py::arg("remote_window_bytes") = RemoteOptions().window_bytes)
      .def_property_readonly("budget", [](const Model& model) { return model.options().budget; })
      .def_property_readonly("threads", [](const Model& model) { return model.options().threads; })
      .def_property_readonly("cpus", [](const Model& model) { return model.options().cpus; })
      .def_property_readonly("weight_bytes", [](const Model& model) { return model.weights().bytes(); })
      .def("plan_image", &plan_image, py::arg("height"), py::arg("width"), py::arg("scale"))
      .def(
          "image_token_ids",
          [](const Model& model, int32_t height, int32_t width, double scale) {
            const auto ids = image_token_ids(model.config(), model.patch_size(), model.layout(height, width, scale));
            return py::array_t<int32_t>(py::ssize_t(ids.size()), ids.data());
          },
          py::arg("height"), py::arg("width"), py::arg("scale"));

  py::class_<Session> session(m, "Session");
  session
      .def(py::init([](std::shared_ptr<Model> model, int32_t context_length) {
             py::gil_scoped_release release;
             return std::make_unique<Session>(std::move(model), context_length);
           }),
           py::arg("model"), py::arg("context_length"))
      .def_property_readonly("length", &Session::length)
      .def_property_readonly("context_length", &Session::context_length)
      .def_property_readonly("device_failed", [](const Session& s) { return s.remote() && s.remote()->failed(); })
      .def_property_readonly("device_parts", [](const Session& s) { return s.remote() ? s.remote()->parts() : 0; })
      .def_property_readonly("parallel_jobs", &Session::parallel_jobs)
      .def("reset", [](Session& s) { s.truncate(0); })
      .def("truncate", &Session::truncate, py::arg("length"))
      .def("cancel", &Session::cancel)
      .def(
          "vrc_scale",
          [](Session& s, const py::object& rgb) {
            const ImageView image = view(rgb);
            return blocking(s, [&] { return s.vrc_scale(image); });
          },
          py::arg("rgb"))
      .def(
          "pixel_values",
          [](Session& s, const py::object& rgb, double scale) {
            const ImageView image = view(rgb);
            ImageLayout layout;
            const auto values = blocking(s, [&] { return s.pixel_values(image, scale, layout); });
            return py::array_t<float>({py::ssize_t(3), py::ssize_t(layout.padded_height), py::ssize_t(layout.padded_width)}, values.data());
          },
          py::arg("rgb"), py::arg("scale"))
      .def(
          "encode",
          [](Session& s, const py::object& rgb, double scale, const std::string& branch) {
            const ImageInput input{view(rgb), scale};
            return matrix(blocking(s, [&] { return s.encode(input, branch); }), s.model().config().text.hidden_size);
          },
          py::arg("rgb"), py::arg("scale"), py::arg("branch"))
      .def(
          "encode_tower",
          [](Session& s, const py::object& rgb, double scale, const std::string& branch) {
            const ImageInput input{view(rgb), scale};
            const auto tiles = blocking(s, [&] { return s.encode_tower(input, branch); });
            py::list out;
            for (const auto& tile : tiles) out.append(matrix(tile, s.model().branch(branch).hidden_size));
            return out;
          },
          py::arg("rgb"), py::arg("scale"), py::arg("branch"))
      .def("prefill", &prefill, py::arg("input_ids"), py::arg("images") = py::tuple(), py::arg("branch") = "", py::arg("logits") = false)
      .def(
          "decode", [](Session& s, int32_t token) { blocking(s, [&] { s.decode(token); }); }, py::arg("token"))
      .def("last_logits",
           [](const Session& s) { return py::array_t<float>(py::ssize_t(s.model().config().text.vocab_size), s.last_logits()); })
      .def("seed", &Session::seed, py::arg("seed"))
      .def("stats", &stats)
      .def("remote_counts", &remote_counts)
      .def("reset_stats", &Session::reset_stats)
      .def("start_trace", &Session::start_trace)
      .def("take_trace", &take_trace)
      .def("set_eager_transfers", &Session::set_eager_transfers, py::arg("eager"))
      .def("speculate_always", &Session::speculate_always, py::arg("on"))
      .def("protect_ddr", &Session::protect_ddr, py::arg("protect"));
  def_sampling(session, "sample", [](Session& s, const SamplingParams& params) { return sampled(s.sample(params)); });
  def_sampling<int32_t, int32_t>(session, "speculate", &speculate, py::arg("token"), py::arg("most"));
}
