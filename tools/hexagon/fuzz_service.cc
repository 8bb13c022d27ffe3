// A libFuzzer target over the DSP program's Service, in this process under the sanitizers: `make hexagon-fuzz`.
//
// HVL_FUZZ_STREAM names a file with the messages of a session, as tools/hexagon/record_session.py writes them; every Service begins with these. An
// input is the kind of a message (its first byte) and what follows kind and magic, without the hash, which is put right: otherwise nothing would get
// past it. A changed Program gets a Plan that names its hash, so that what is accepted runs, and the sanitizers see what it touches. Now
// and then the recorded messages must give what they gave before.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

#include "hexagon/dsp/kernels.h"
#include "hexagon/dsp/service.h"

namespace hvl {
namespace {

using Bytes = std::vector<uint8_t>;

struct Answer {
  Status status;
  Reply reply;
  Bytes outputs;
};

Answer ask(Service& service, const Bytes& message) {
  const Bytes bytes = service.answer(message.data(), message.size());
  WireReader reader(bytes.data() + 4, bytes.size() - 4);
  Reply reply;
  fields(reader, reply);
  if (!reader.good()) std::abort();
  const size_t left = reader.left();
  const uint8_t* outputs = reader.take(left);
  return {Status(reader.kind()), reply, Bytes(outputs, outputs + left)};
}

Request kind(const Bytes& message) { return Request(WireReader(message.data(), message.size()).kind()); }

Bytes encoded(Request kind, const Bytes& body) {
  WireWriter writer{uint32_t(kind)};
  writer.append(body.data(), body.size());
  const Bytes framed = writer.finish();
  return {framed.begin() + 4, framed.end()};
}

// A LoadRequest whose Plan names the Program that it now has, or the message itself if it cannot be read.
Bytes with_right_hash(const Bytes& message, uint32_t id) {
  WireReader reader(message.data(), message.size());
  LoadRequest load;
  fields(reader, load);
  if (!reader.good()) return message;
  load.id = id;
  load.plan.program = program_hash(load.program);
  WireWriter writer{uint32_t(Request::kLoad)};
  fields(writer, std::as_const(load));
  const Bytes framed = writer.finish();
  return {framed.begin() + 4, framed.end()};
}

class Fuzzed {
 public:
  explicit Fuzzed(std::vector<Bytes> recorded) : recorded_(std::move(recorded)) { start(); }

  void input(const uint8_t* data, size_t size) {
    if (size == 0) return;
    const auto of = Request(data[0] % 16);
    Bytes message = encoded(of, Bytes(data + 1, data + size));
    const uint32_t id = 1000 + inputs_;
    if (of == Request::kLoad) message = with_right_hash(message, id);
    if (of == Request::kCancel) {  // is not answered
      service_->answer(message.data(), message.size());
      return;
    }
    const bool taken = ask(*service_, message).status == Status::kOk;
    if (of == Request::kLoad && taken) run_loaded(id);
    if (++inputs_ % 16 == 0) check();
    if (taken && of != Request::kRun && ++kept_ % 50 == 0) start();  // what was loaded stays
  }

 private:
  // A changed program, with scalars of its own and bound buffers of the length that it takes.
  void run_loaded(uint32_t id) {
    for (const int32_t rows : {1, 8, 40}) {
      RunRequest run;
      run.id = id;
      run.run = {rows, rows % 3 * 20};
      for (size_t bytes = 0;;) {  // the refusal says how many are expected
        WireWriter writer{uint32_t(Request::kRun)};
        fields(writer, std::as_const(run));
        const Bytes zeros(bytes);
        writer.append(zeros.data(), bytes);
        const Bytes framed = writer.finish();
        const Answer answer = ask(*service_, Bytes(framed.begin() + 4, framed.end()));
        if (answer.status != Status::kMalformed || bytes > 0) break;
        const std::string& text = answer.reply.text;
        bytes = size_t(std::strtoul(text.c_str() + text.rfind("expected ") + 9, nullptr, 10));
        if (bytes == 0) break;
      }
    }
  }

  void start() {
    service_ = std::make_unique<Service>(dsp_kernels(), [] { return false; });
    for (const Bytes& message : recorded_) {
      const Answer answer = ask(*service_, message);
      if (answer.status != Status::kOk) std::abort();
      if (kind(message) == Request::kCaches) caches_ = message;
      expected_ = answer.outputs;
    }
  }

  void check() {
    if (ask(*service_, caches_).status != Status::kOk) std::abort();
    if (ask(*service_, recorded_.back()).outputs != expected_) std::abort();
  }

  const std::vector<Bytes> recorded_;
  std::unique_ptr<Service> service_;
  Bytes caches_, expected_;
  uint32_t inputs_ = 0, kept_ = 0;
};

std::vector<Bytes> messages(const char* path) {
  if (!path) {
    std::fprintf(stderr, "HVL_FUZZ_STREAM is not set\n");
    std::abort();
  }
  std::ifstream file(path, std::ios::binary);
  const Bytes all{std::istreambuf_iterator<char>(file), {}};
  std::vector<Bytes> found;
  for (size_t at = 0; at + 4 <= all.size();) {
    uint32_t length;
    std::memcpy(&length, &all[at], sizeof length);
    if (length > all.size() - at - 4) break;
    found.emplace_back(all.begin() + long(at) + 4, all.begin() + long(at) + 4 + length);
    at += 4 + length;
  }
  return found;
}

}  // namespace
}  // namespace hvl

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static hvl::Fuzzed fuzzed(hvl::messages(std::getenv("HVL_FUZZ_STREAM")));
  fuzzed.input(data, size);
  return 0;
}
