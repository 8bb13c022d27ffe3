// The one entry of the library on the DSP, as FastRPC calls it.
#pragma once

#include "csrc/remote/fastrpc_abi.h"

extern "C" __attribute__((visibility("default"))) int hypervl_skel_handle_invoke(uint64_t handle, uint32_t scalars, hvl::rpc::Arg* args);
