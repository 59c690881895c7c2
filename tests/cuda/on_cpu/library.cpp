// The kernels as a library that Python calls: `run` takes a kernel by the name that NVRTC would be given, and its
// arguments as cuLaunchKernel takes them.
#include "cuda_on_cpu.h"

using std::exp;
using std::sqrt;
using std::tanh;

#include "delta.cuh"
#include "feedback.cuh"
#include "gated.cuh"
#include "rdn.cuh"

#include <map>
#include <string>
#include <utility>

namespace {

using Caller = std::function<void(void**)>;

template <typename... Arguments>
Caller caller(void (*kernel)(Arguments...)) {
  return [kernel](void** arguments) {
    [&]<size_t... i>(std::index_sequence<i...>) {
      kernel(*static_cast<Arguments*>(arguments[i])...);
    }(std::index_sequence_for<Arguments...>{});
  };
}

std::map<std::string, Caller> kernels;

using rfwp::BFloat16;

template <typename S, typename X, int D, typename Map>
void add_map(const std::string& types, const std::string& state, const std::string& size_and_map) {
  using namespace rfwp;
  kernels["feedback_forward<" + types + size_and_map + ">"] = caller(feedback_forward<S, X, D, Map>);
  kernels["feedback_backward<" + types + size_and_map + ">"] = caller(feedback_backward<S, X, D, Map>);
  kernels["rdn_forward<" + types + size_and_map + ">"] = caller(rdn_forward<S, X, D, Map>);
  kernels["rdn_backward<" + state + size_and_map + ">"] = caller(rdn_backward<S, D, Map>);
}

template <typename S, typename X, int D>
void add(const std::string& types, const std::string& state, const std::string& size) {
  using namespace rfwp;
  kernels["delta_forward<" + types + size + ", false, false>"] = caller(delta_forward<S, X, D, false, false>);
  kernels["delta_forward<" + types + size + ", true, false>"] = caller(delta_forward<S, X, D, true, false>);
  kernels["delta_forward<" + types + size + ", true, true>"] = caller(delta_forward<S, X, D, true, true>);
  kernels["delta_backward<" + types + size + ", false, false>"] = caller(delta_backward<S, X, D, false, false>);
  kernels["delta_backward<" + types + size + ", true, false>"] = caller(delta_backward<S, X, D, true, false>);
  kernels["delta_backward<" + types + size + ", true, true>"] = caller(delta_backward<S, X, D, true, true>);
  add_map<S, X, D, Softmax>(types, state, size + ", Softmax");
  add_map<S, X, D, UnitLength>(types, state, size + ", UnitLength");
}

template <typename S>
void add_gated(const std::string& state) {
  using namespace rfwp;
  kernels["lstm_forward<" + state + ">"] = caller(lstm_forward<S>);
  kernels["lstm_backward<" + state + ">"] = caller(lstm_backward<S>);
  kernels["gru_forward<" + state + ">"] = caller(gru_forward<S>);
  kernels["gru_backward<" + state + ">"] = caller(gru_backward<S>);
}

template <int D>
void add_size() {
  const std::string size = std::to_string(D);
  add<double, double, D>("double, double, ", "double, ", size);
  add<float, float, D>("float, float, ", "float, ", size);
  add<float, BFloat16, D>("float, BFloat16, ", "float, ", size);
}

}  // namespace

extern "C" int run(const char* name, unsigned num_blocks, unsigned num_threads, size_t shared_bytes, void** arguments,
                   unsigned seed) {
  if (kernels.empty()) {
    add_size<16>();
    add_size<32>();
    add_size<64>();
    add_gated<double>("double");
    add_gated<float>("float");
  }
  const auto found = kernels.find(name);
  if (found == kernels.end()) return 1;
  on_cpu::launch(num_blocks, num_threads, shared_bytes, seed, [&] { found->second(arguments); });
  return 0;
}
