// Feeds changed messages to the DSP program's Service in this process, under the sanitizers: `make hexagon-fuzz` (STREAM, SECONDS, SEED).
//
//   fuzz_service STREAM SECONDS SEED
//
// STREAM: the messages of a session, as tools/hexagon/record_session.py writes them. Each round changes some bytes or words of one of them.
// A changed Program gets a Plan that names its hash, so that what is accepted runs, and the sanitizers see what it touches. Afterwards the
// recorded messages must give what they gave before. Prints how many of the changed messages had each status.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <utility>

#include "hexagon/dsp/kernels.h"
#include "hexagon/dsp/service.h"

namespace hvl {
namespace {

using Bytes = std::vector<uint8_t>;
constexpr size_t kHead = 8, kHash = 8;

struct Answer {
  Status status;
  Bytes bytes;
};

Answer ask(Service& service, const Bytes& message) {
  const Bytes reply = service.answer(message.data(), message.size());
  WireReader reader(reply.data() + 4, reply.size() - 4);
  if (!reader.good()) std::abort();
  return {Status(reader.kind()), reply};
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

class Fuzzer {
 public:
  Fuzzer(std::vector<Bytes> recorded, uint32_t seed) : recorded_(std::move(recorded)), random_(seed) { start(); }

  void round() {
    const Bytes& whole = recorded_[pick({Request::kLoad, Request::kRun, Request::kRun, Request::kCaches})];
    const Request of = kind(whole);
    Bytes body(whole.begin() + kHead, whole.end() - kHash);
    const size_t fields_end = of == Request::kRun ? std::min<size_t>(body.size(), 40) : body.size();
    for (int changes = 1 + below(3); changes > 0; --changes) change(body, fields_end);
    Bytes message = encoded(of, body);
    const uint32_t id = 1000 + below(1 << 30);
    if (of == Request::kLoad) message = with_right_hash(message, id);
    const Answer answer = ask(*service_, message);
    ++counts_[{of, answer.status}];
    if (of == Request::kLoad && answer.status == Status::kOk) {
      run_loaded(id);
      if (++accepted_ % 50 == 0) start();  // what was loaded stays
    }
    if (++rounds_ % 16 == 0) check();
  }

  void print() const {
    for (const auto& [key, count] : counts_) std::printf("kind %d, status %d: %ld\n", int(key.first), int(key.second), count);
    std::printf("runs of changed programs: %ld of status 0, %ld refused\n", ran_, refused_);
  }

 private:
  uint32_t below(uint32_t n) { return uint32_t(random_() % n); }

  size_t pick(std::initializer_list<Request> kinds) {
    const Request wanted = *(kinds.begin() + below(uint32_t(kinds.size())));
    for (;;) {
      const size_t i = below(uint32_t(recorded_.size()));
      if (kind(recorded_[i]) == wanted) return i;
    }
  }

  void change(Bytes& body, size_t end) {
    static constexpr uint32_t kValues[] = {0, 1, 2, 3, 16, 31, 32, 255, 32767, 65536, 1 << 24, (1u << 28) + 1, (1u << 31) - 1, 1u << 31, ~0u};
    const size_t at = below(uint32_t(end - 3));
    const uint32_t value = kValues[below(std::size(kValues))];
    switch (below(4)) {
      case 0:
        body[at] = uint8_t(value);
        break;
      case 1:
        body[at] ^= uint8_t(1 << below(8));
        break;
      case 2:
        body[at] = uint8_t(body[at] + below(3) - 1);
        break;
      default:
        std::memcpy(&body[at], &value, sizeof value);
    }
  }

  // A changed program, with scalars of its own and bound buffers of the length that it takes.
  void run_loaded(uint32_t id) {
    for (const int32_t rows : {1, 8, 40}) {
      RunRequest run;
      run.id = id;
      run.run = {rows, int32_t(below(64))};
      for (size_t bytes = 0;;) {  // the refusal says how many are expected
        WireWriter writer{uint32_t(Request::kRun)};
        fields(writer, std::as_const(run));
        const Bytes zeros(bytes);
        writer.append(zeros.data(), bytes);
        const Bytes framed = writer.finish();
        const Answer answer = ask(*service_, Bytes(framed.begin() + 4, framed.end()));
        if (answer.status != Status::kMalformed || bytes > 0) {
          ++(answer.status == Status::kOk ? ran_ : refused_);
          break;
        }
        WireReader reader(answer.bytes.data() + 4, answer.bytes.size() - 4);
        Reply reply;
        fields(reader, reply);
        bytes = size_t(std::strtoul(reply.text.c_str() + reply.text.rfind("expected ") + 9, nullptr, 10));
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
      expected_ = answer.bytes;
    }
  }

  void check() {
    if (ask(*service_, caches_).status != Status::kOk) std::abort();
    if (ask(*service_, recorded_.back()).bytes != expected_) std::abort();
  }

  const std::vector<Bytes> recorded_;
  std::mt19937 random_;
  std::unique_ptr<Service> service_;
  Bytes caches_, expected_;
  std::map<std::pair<Request, Status>, long> counts_;
  long rounds_ = 0, accepted_ = 0, ran_ = 0, refused_ = 0;
};

std::vector<Bytes> messages(const char* path) {
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

int main(int count, char** words) {
  if (count != 4) {
    std::fprintf(stderr, "fuzz_service STREAM SECONDS SEED\n");
    return 2;
  }
  hvl::Fuzzer fuzzer(hvl::messages(words[1]), uint32_t(std::atoi(words[3])));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(words[2]));
  while (std::chrono::steady_clock::now() < end) fuzzer.round();
  fuzzer.print();
  return 0;
}
