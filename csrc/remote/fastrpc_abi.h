// What FastRPC publishes of its calling convention, declared again: as much of it as both ends here use. Learnt from remote.h and rpcmem.h of
// github.com/qualcomm/fastrpc (inc/, BSD-3-Clause), where names and numbers can be looked up; values are those of that interface.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace hvl::rpc {

// One argument of a call: a buffer, or the handle of an open module. Arguments stand in this order: buffers in, buffers out, handles in,
// handles out.
union Arg {
  struct {
    void* data;
    size_t bytes;
  } buffer;
  uint64_t handle;
};

// Which method is called, and how many arguments of each kind it has, in one word ("scalars").
struct Scalars {
  uint32_t attributes, method, in_buffers, out_buffers, in_handles, out_handles;

  uint32_t encoded() const { return attributes << 29 | method << 24 | in_buffers << 16 | out_buffers << 8 | in_handles << 4 | out_handles; }
  static Scalars decoded(uint32_t word) {
    return {word >> 29, word >> 24 & 0x1f, word >> 16 & 0xff, word >> 8 & 0xff, word >> 4 & 0xf, word & 0xf};
  }
  // The shape of a call, whatever its attributes.
  bool is(uint32_t in, uint32_t out, uint32_t handles_in, uint32_t handles_out) const {
    return in_buffers == in && out_buffers == out && in_handles == handles_in && out_handles == handles_out;
  }
};

// Methods of our module. The first two are the convention's.
enum Method : uint32_t {
  kOpen = 0,      // buffers in: uint32 bytes of the address, the address; handle out
  kClose = 1,     // handle in
  kExchange = 2,  // buffer in: a message (csrc/remote/wire.h) with its length; buffers out: uint32 bytes of the reply, and the reply, if it fits
  kFetch = 3,     // buffer out: the whole reply of the last kExchange, of exactly its bytes
  kCancel = 4,    // nothing. While another thread's kExchange is at work: ends its run, as the message kCancel does
};

// Results of a call; others are the transport's own.
enum Result : int32_t {
  kDone = 0,
  kFailed = 1,
  kNoMemory = 2,
  kBadArgument = 14,
  kUnknownMethod = 20,
  kBusy = 46,
};

inline constexpr int kDomain = 3;  // the compute DSP

// What remote_handle_control answers, and remote_session_control does.
inline constexpr uint32_t kGetDspInfo = 2, kArchVersion = 6, kUnsignedSupport = 1;
struct DspInfo {
  uint32_t domain, attribute, value;
};
inline constexpr uint32_t kControlUnsigned = 2, kKillProcess = 6, kSessionClose = 7, kReserveSession = 13, kGetUri = 15;
struct ControlUnsigned {
  int domain, enable;
};
struct KillProcess {
  int domain;
};
struct SessionClose {
  int domain;
};
struct ReserveSession {
  char* domain_name;
  uint32_t domain_name_length;
  char* session_name;
  uint32_t session_name_length;
  uint32_t domain, session;  // out
};
struct GetUri {
  char* domain_name;
  uint32_t domain_name_length;
  uint32_t session;
  char* module;
  uint32_t module_length;
  char* uri;  // out
  uint32_t uri_length;
};

inline constexpr int kSystemHeap = 25;         // of rpcmem_alloc
inline constexpr uint32_t kUncached = 0;       // a flag of it
inline constexpr int kMapUnderFile = 2;        // of fastrpc_mmap: the DSP finds the buffer by its file's number

}  // namespace hvl::rpc
