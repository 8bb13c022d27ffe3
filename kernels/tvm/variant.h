// Lets one reference.cc be compiled under another variant's name: a build without TVM has no vectorised body for these kernels.
#pragma once

#ifndef HVL_VARIANT
#define HVL_VARIANT(name) name##_reference
#endif
