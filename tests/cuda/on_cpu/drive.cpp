// Runs every kernel on random numbers under two schedules, which must give the same bits. Built with a sanitizer, this
// is the check for races and bad accesses. Exit code 1: the schedules differ. A number on the command line leaves out the
// barrier of that number, where the kernels were numbered.
#include "cuda_on_cpu.h"

#include <string_view>

using std::exp;
using std::sqrt;
using std::tanh;

#include "delta.cuh"
#include "feedback.cuh"
#include "gated.cuh"
#include "rdn.cuh"

namespace {

using Numbers = std::vector<float>;

constexpr int T = 6, H = 2, B = 2, N = H * B;

std::mt19937 generator(7);

Numbers random_numbers(size_t count) {
  std::normal_distribution<float> normal;
  Numbers numbers(count);
  for (float& number : numbers) number = 0.3f * normal(generator);
  return numbers;
}

Numbers random_rates(size_t count) {
  Numbers rates = random_numbers(count);
  for (float& rate : rates) rate = 0.5f + 0.1f * rate;
  return rates;
}

std::vector<unsigned char> random_resets() {
  std::vector<unsigned char> resets(T * B);
  for (auto& reset : resets) reset = generator() % 3 == 0;
  return resets;
}

Numbers joined(std::initializer_list<const Numbers*> parts) {
  Numbers all;
  for (const Numbers* part : parts) all.insert(all.end(), part->begin(), part->end());
  return all;
}

// Runs `pass` under two schedules, and compares all that it wrote.
bool check(const char* name, int size, const std::function<Numbers(unsigned seed)>& pass) {
  const Numbers first = pass(1), second = pass(2);
  const bool same = memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0;
  double sum = 0;
  for (float number : first) sum += number;
  const bool right = same && std::isfinite(sum);
  printf("%-12s D = %d: %s\n", name, size, right ? "ok" : same ? "NOT FINITE" : "SCHEDULES DIFFER");
  return right;
}

template <int D, bool kCorrects, bool kDecays>
bool check_delta(const char* name) {
  const Numbers query_key = random_numbers(T * N * 2 * D), value = random_numbers(T * N * D), rate = random_rates(T * N),
                log_decay = random_numbers(T * N), before = random_numbers(N * D * D), d_read = random_numbers(T * N * D),
                d_after = random_numbers(N * D * D);
  const auto reset = random_resets();
  return check(name, D, [&](unsigned seed) {
    Numbers after(N * D * D), read(T * N * D), error(T * N * D), d_query_key(T * N * 2 * D), d_value(T * N * D),
        d_rate(T * N), d_log_decay(T * N), d_before(N * D * D);
    on_cpu::launch(N, D, 0, seed, [&] {
      rfwp::delta_forward<float, float, D, kCorrects, kDecays>(
          query_key.data(), value.data(), rate.data(), log_decay.data(), before.data(), after.data(), reset.data(),
          nullptr, read.data(), error.data(), T, N, B);
    });
    on_cpu::launch(N, D, 0, seed, [&] {
      rfwp::delta_backward<float, float, D, kCorrects, kDecays>(
          query_key.data(), value.data(), rate.data(), log_decay.data(), before.data(), after.data(), reset.data(),
          read.data(), error.data(), d_read.data(), d_after.data(), d_query_key.data(), d_value.data(), d_rate.data(),
          d_log_decay.data(), d_before.data(), T, N, B, 4);
    });
    return joined({&after, &read, &error, &d_query_key, &d_value, &d_rate, &d_log_decay, &d_before});
  });
}

template <int D, typename Map>
bool check_feedback(const char* name) {
  const Numbers input = random_numbers(T * N * D), key = random_numbers(T * N * D), value = random_numbers(T * N * D),
                rate = random_rates(T * N), before = random_numbers(N * D * D), output_before = random_numbers(N * D),
                d_output = random_numbers(T * N * D), d_after = random_numbers(N * D * D),
                d_output_after = random_numbers(N * D);
  const auto reset = random_resets();
  return check(name, D, [&](unsigned seed) {
    Numbers after(N * D * D), output_after(N * D), output(T * N * D), query(T * N * D), error(T * N * D),
        kept(T * N), d_input(T * N * D), d_key(T * N * D), d_value(T * N * D), d_rate(T * N), d_before(N * D * D),
        d_output_before(N * D);
    on_cpu::launch(N, D, 0, seed, [&] {
      rfwp::feedback_forward<float, float, D, Map>(
          input.data(), key.data(), value.data(), rate.data(), before.data(), after.data(), output_before.data(),
          output_after.data(), reset.data(), nullptr, output.data(), query.data(), error.data(), kept.data(), T, N, B);
    });
    on_cpu::launch(N, D, 0, seed, [&] {
      rfwp::feedback_backward<float, float, D, Map>(
          key.data(), rate.data(), before.data(), after.data(), reset.data(), query.data(), error.data(), kept.data(),
          d_output.data(), d_after.data(), d_output_after.data(), d_input.data(), d_key.data(), d_value.data(),
          d_rate.data(), d_before.data(), d_output_before.data(), T, N, B, 4);
    });
    return joined({&after, &output_after, &output, &query, &error, &kept, &d_input, &d_key, &d_value, &d_rate,
                   &d_before, &d_output_before});
  });
}

template <int D, typename Map>
bool check_rdn(const char* name) {
  constexpr int P = 3 * D + 1;
  constexpr size_t kSharedBytes = 3 * D * (D + 4) * sizeof(float);
  const Numbers slow = random_numbers(T * N * P), recurrent = random_numbers(H * D * P),
                before = random_numbers(N * D * D), read_before = random_numbers(N * D),
                d_read = random_numbers(T * N * D), d_after = random_numbers(N * D * D),
                d_read_after = random_numbers(N * D);
  const auto reset = random_resets();
  return check(name, D, [&](unsigned seed) {
    Numbers after(N * D * D), read_after(N * D), read(T * N * D), query_key(T * N * 2 * D), error(T * N * D),
        rate(T * N), feedback(T * N * D), kept(T * N * 2), d_slow(T * N * P), d_before(N * D * D),
        d_read_before(N * D);
    on_cpu::launch(N, D, D > 32 ? kSharedBytes : 0, seed, [&] {
      rfwp::rdn_forward<float, float, D, Map>(
          slow.data(), recurrent.data(), before.data(), after.data(), read_before.data(), read_after.data(),
          reset.data(), nullptr, read.data(), query_key.data(), error.data(), rate.data(), feedback.data(), kept.data(),
          T, N, B);
    });
    on_cpu::launch(N, D, kSharedBytes, seed, [&] {
      rfwp::rdn_backward<float, D, Map>(
          recurrent.data(), before.data(), after.data(), reset.data(), query_key.data(), error.data(), rate.data(),
          feedback.data(), kept.data(), d_read.data(), d_after.data(), d_read_after.data(), d_slow.data(),
          d_before.data(), d_read_before.data(), T, N, B, 4);
    });
    return joined({&after, &read_after, &read, &query_key, &error, &rate, &feedback, &kept, &d_slow, &d_before,
                   &d_read_before});
  });
}

bool check_gated() {
  constexpr int kSize = 5, kThreads = 32, kBlocks = (B * kSize + kThreads - 1) / kThreads;
  const Numbers gates = random_numbers(B * 4 * kSize), state = random_numbers(B * kSize),
                share = random_numbers(B * 3 * kSize), d_output = random_numbers(B * kSize);
  const auto reset = random_resets();
  const bool lstm = check("lstm", kSize, [&](unsigned seed) {
    Numbers activations = gates, after(B * kSize), output(B * kSize), output_next(B * kSize), d_cell = state,
            d_gates(B * 4 * kSize);
    on_cpu::launch(kBlocks, kThreads, 0, seed, [&] {
      rfwp::lstm_forward<float>(activations.data(), state.data(), after.data(), reset.data(), reset.data() + B,
                                output.data(), output_next.data(), B, kSize);
    });
    on_cpu::launch(kBlocks, kThreads, 0, seed, [&] {
      rfwp::lstm_backward<float>(activations.data(), state.data(), after.data(), reset.data(), reset.data(),
                                 reset.data() + B, d_output.data(), state.data(), d_cell.data(), d_gates.data(), B,
                                 kSize);
    });
    return joined({&activations, &after, &output, &output_next, &d_cell, &d_gates});
  });
  const bool gru = check("gru", kSize, [&](unsigned seed) {
    Numbers activations(B * 4 * kSize), output(B * kSize), output_next(B * kSize), d_input(B * 3 * kSize),
        d_past(B * 3 * kSize), d_before(B * kSize);
    on_cpu::launch(kBlocks, kThreads, 0, seed, [&] {
      rfwp::gru_forward<float>(share.data(), share.data(), state.data(), nullptr, output.data(), output_next.data(),
                               activations.data(), B, kSize);
    });
    on_cpu::launch(kBlocks, kThreads, 0, seed, [&] {
      rfwp::gru_backward<float>(activations.data(), state.data(), reset.data(), d_output.data(), state.data(),
                                d_input.data(), d_past.data(), d_before.data(), B, kSize);
    });
    return joined({&activations, &output, &output_next, &d_input, &d_past, &d_before});
  });
  return lstm && gru;
}

// Which kernels to build in: those whose files KERNELS names, all unless it is given.
#ifndef KERNELS
#define KERNELS "delta feedback gated rdn"
#endif
constexpr bool built(std::string_view name) { return std::string_view(KERNELS).find(name) != std::string_view::npos; }

template <int D>
bool check_size() {
  bool right = true;
  if constexpr (built("delta")) {
    right &= check_delta<D, false, false>("sum");
    right &= check_delta<D, true, false>("delta");
    right &= check_delta<D, true, true>("gated delta");
  }
  if constexpr (built("feedback")) {
    right &= check_feedback<D, rfwp::Softmax>("feedback, softmax");
    right &= check_feedback<D, rfwp::UnitLength>("feedback, l2");
  }
  if constexpr (built("rdn")) {
    right &= check_rdn<D, rfwp::Softmax>("rdn, softmax");
    right &= check_rdn<D, rfwp::UnitLength>("rdn, l2");
  }
  return right;
}

}  // namespace

int main(int count, char** words) {
  if (count > 1) on_cpu::barrier_left_out = atoi(words[1]);
  bool right = check_size<16>();
#ifndef FEWER_SIZES  // 32 threads wait for each other as 16 do
  right &= check_size<32>();
#endif
  right &= check_size<64>();
  if (built("gated")) right &= check_gated();
  return right ? 0 : 1;
}
