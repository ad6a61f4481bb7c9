#pragma once

// The activations' definitions in float64, as PyTorch has them (torch.nn.functional.gelu with
// approximate="none" and "tanh", relu, silu, tanh, sigmoid).

#include "kernels/backend.h"

namespace bertrand {

double ActivationReference(Activation activation, double x);

}  // namespace bertrand
