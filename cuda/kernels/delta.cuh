// Fast weights that are written at a key and read at a query, without feedback: Linear Transformer, Delta Net, Gated
// Delta Net, and the feed-forward half of the Delta RNN.
//
//   M = α W_{t-1}              α = 1 without kDecays
//   e = v - M k                e = v without kCorrects
//   c = β e                    c = v without kCorrects
//   W_t = M + c ⊗ k
//   y_t = W_t q
//
// Backward. G is the gradient of W_t: that from later steps, plus dy ⊗ q. Then
//
//   dq = W_tᵀ dy     dc = G k     dk = Gᵀ c     dv = β dc     dβ = dc · e
//   dM = G - dv ⊗ k            dk -= Mᵀ dv      because M k enters with the opposite sign of v
//   G of step t - 1 = α dM
//
// G runs backward in time and W forward, and G never depends on W. So there are two sweeps: one back with G, and one
// forward with W, rebuilt from the e that the forward pass saved. Nothing else is stored, and there are no divisions.
//
// dα would need G and W of the same step. With A_t = ⟨dM, M⟩ = α dα, which is the gradient of log α, and
// ⟨G, W_t⟩ = A_{t+1} + dy · y_t,  it follows from W_t = M + c ⊗ k that
//
//   A_t = A_{t+1} + dy · y_t - c · dc - dv · (M k)
//
// so only scalars are carried. This is why the decay is passed as log α.
#pragma once
#include "common.cuh"

namespace rfwp {

// A thread's inputs of one step. They are loaded one step ahead, to overlap the load with the previous step.
template <typename S>
struct DeltaInputs {
  S q, k, v, beta, log_alpha;
  unsigned char reset;
};

template <bool kCorrects, bool kDecays, int D, typename S, typename X>
RFWP_DEVICE DeltaInputs<S> delta_inputs(const X* query_key, const X* value, const X* rate, const X* log_decay,
                                        const unsigned char* reset, int t, int N, int B) {
  const int i = threadIdx.x, n = blockIdx.x;
  const long long step = static_cast<long long>(t) * N + n;
  return {load(query_key + step * 2 * D + i),
          load(query_key + step * 2 * D + D + i),
          load(value + step * D + i),
          kCorrects ? load(rate + step) : S(1),
          kDecays ? load(log_decay + step) : S(0),
          reset[t * B + n % B]};
}

// before, after: memory n is at slots[n], or at n without slots. A memory is read in full before it is written, so
// before and after may be the same. error: null if no gradient is needed.
template <typename S, typename X, int D, bool kCorrects, bool kDecays>
__global__ void __launch_bounds__(D)
    delta_forward(const X* query_key,           // [T, N, 2, D]
                  const X* value,               // [T, N, D]
                  const X* rate,                // [T, N]  β, if kCorrects
                  const X* log_decay,           // [T, N]  log α, if kDecays
                  const S* before, S* after,    // [slots, D, D]  W, one row per value
                  const unsigned char* reset,   // [T, B]  W is zero before step t
                  const long long* slots,       // [N]
                  X* read,                      // [T, N, D]  y
                  S* error,                     // [T, N, D]  e, if kCorrects
                  int T, int N, int B) {
  __shared__ S queries[2][D], keys[2][D];
  const int i = threadIdx.x, n = blockIdx.x;
  const long long slot = slots ? slots[n] : n;
  S W[D];  // row i
  load_row<D>(W, before + slot * D * D);

  const auto inputs = [&](int t) {
    return delta_inputs<kCorrects, kDecays, D, S>(query_key, value, rate, log_decay, reset, t, N, B);
  };
  DeltaInputs<S> next = inputs(0);
  for (int t = 0; t < T; ++t) {
    const DeltaInputs<S> now = next;
    if (t + 1 < T) next = inputs(t + 1);
    // Double buffer: before a thread reuses a buffer, all others have passed the wait in between.
    S *q = queries[t % 2], *k = keys[t % 2];
    q[i] = now.q;
    k[i] = now.k;
    sync<D>();
    if (now.reset) clear<D>(W);
    if constexpr (kDecays) scale<D>(W, exp(now.log_alpha));
    const long long place = (static_cast<long long>(t) * N + n) * D + i;
    S c = now.v;
    if constexpr (kCorrects) {
      const S e = now.v - dot<D>(W, k);
      if (error) error[place] = e;
      c = now.beta * e;
    }
    add_outer<D>(W, c, k);
    store(read + place, dot<D>(W, q));
  }
  store_row<D>(W, after + slot * D * D);
}

// d_...: gradients, shaped like their tensors; d_read already has type S.
template <typename S, typename X, int D, bool kCorrects, bool kDecays>
__global__ void __launch_bounds__(D)
    delta_backward(const X* query_key, const X* value, const X* rate, const X* log_decay, const S* before,
                   const S* after, const unsigned char* reset, const X* read, const S* error, const S* d_read,
                   const S* d_after, S* d_query_key, S* d_value, S* d_rate, S* d_log_decay, S* d_before, int T, int N,
                   int B, int horizon) {
  __shared__ S vectors[2][5][D];
  __shared__ S scratch[2];
  const int i = threadIdx.x, n = blockIdx.x;
  const long long matrix = static_cast<long long>(n) * D * D;

  struct Saved {
    DeltaInputs<S> inputs;
    S e, y, dy;
  };
  const auto saved = [&](int t) -> Saved {
    const long long place = (static_cast<long long>(t) * N + n) * D + i;
    return {delta_inputs<kCorrects, kDecays, D, S>(query_key, value, rate, log_decay, reset, t, N, B),
            kCorrects ? error[place] : load(value + place), kDecays ? load(read + place) : S(0), d_read[place]};
  };

  S G[D], G_column[D];  // row i, so G k needs no other thread, and column i, for Gᵀ c
  load_row<D>(G, d_after + matrix);
  load_column<D>(G_column, d_after + matrix);
  S A = 0;
  if constexpr (kDecays) {
    S last[D];
    load_row<D>(last, after + matrix);
    A = reduce<Sum, D>(dot<D>(G, last), scratch);
  }
  Saved next = saved(T - 1);
  for (int t = T - 1; t >= 0; --t) {
    const Saved now = next;
    if (t > 0) next = saved(t - 1);
    const long long step = static_cast<long long>(t) * N + n;
    S(&vector)[5][D] = vectors[t % 2];
    S *q = vector[0], *k = vector[1], *c = vector[2], *dy = vector[3], *dv = vector[4];
    const S own_c = now.inputs.beta * now.e;
    q[i] = now.inputs.q;
    k[i] = now.inputs.k;
    c[i] = own_c;
    dy[i] = now.dy;
    sync<D>();
    add_outer<D>(G, now.dy, q);
    add_outer<D>(G_column, now.inputs.q, dy);
    const S dc = dot<D>(G, k);
    const S own_dv = now.inputs.beta * dc;
    d_query_key[step * 2 * D + D + i] = dot<D>(G_column, c);
    d_value[step * D + i] = own_dv;
    if constexpr (kCorrects) {
      const S d_beta = reduce<Sum, D>(dc * now.e, scratch);
      if (i == 0) d_rate[step] = d_beta;
      dv[i] = own_dv;
      sync<D>();
      add_outer<D>(G, -own_dv, k);
      add_outer<D>(G_column, -now.inputs.k, dv);
    }
    if constexpr (kDecays) {
      const S Mk = now.inputs.v - now.e;
      A += reduce<Sum, D>(now.dy * now.y - own_c * dc - own_dv * Mk, scratch);
      if (i == 0) d_log_decay[step] = now.inputs.reset ? S(0) : A;
      const S alpha = exp(now.inputs.log_alpha);
      scale<D>(G, alpha);
      scale<D>(G_column, alpha);
    }
    if (now.inputs.reset || horizon_at(t, horizon)) {
      clear<D>(G);
      clear<D>(G_column);
      A = 0;
    }
  }
  store_row<D>(G, d_before + matrix);

  S W[D];  // column i
  load_column<D>(W, before + matrix);
  next = saved(0);
  sync<D>();  // all threads have read what this one overwrites next
  for (int t = 0; t < T; ++t) {
    const Saved now = next;
    if (t + 1 < T) next = saved(t + 1);
    const long long step = static_cast<long long>(t) * N + n;
    S(&vector)[5][D] = vectors[t % 2];
    S *c = vector[0], *dy = vector[1], *dv = vector[2];
    c[i] = now.inputs.beta * now.e;
    dy[i] = now.dy;
    if constexpr (kCorrects) dv[i] = d_value[step * D + i];
    sync<D>();
    if (now.inputs.reset) clear<D>(W);
    if constexpr (kDecays) scale<D>(W, exp(now.inputs.log_alpha));
    if constexpr (kCorrects) d_query_key[step * 2 * D + D + i] -= dot<D>(W, dv);
    add_outer<D>(W, now.inputs.k, c);
    d_query_key[step * 2 * D + i] = dot<D>(W, dy);
  }
}

}  // namespace rfwp
