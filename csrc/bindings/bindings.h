// What the files of the compiled module share.
#pragma once

#include <pybind11/pybind11.h>

#include "csrc/model/config.h"

void bind_weights(pybind11::module_& m);
void bind_model(pybind11::module_& m);
void bind_spec(pybind11::module_& m);
void bind_plan(pybind11::module_& m);
void bind_microbenchmark(pybind11::module_& m);
void bind_roofline(pybind11::module_& m);

// config.json's content, already validated by hypervl_engine.config, as the model code takes it.
hvl::ModelConfig model_config_from(const pybind11::dict& config);
