// The recurrent half of the Delta RNN: a matrix R, written by the delta rule, that reads the last output.
//
//   s = f(y_{t-1})                    f: the feature map
//   e = v - R_{t-1} k;    R_t = R_{t-1} + β e ⊗ k
//   y_t = z_t + R_t s
//
// Backward. dy is the gradient of y_t: d_output, plus `carry` from step t + 1 through s. G is the gradient of R_t,
// including dy ⊗ s. Then
//
//   dz = dy          ds = R_tᵀ dy        dc = G k     dk = Gᵀ c - R_{t-1}ᵀ dv     dv = β dc    dβ = dc · e
//   G of step t - 1 = G - dv ⊗ k
//   carry of step t - 1 = the map's gradient at ds
//
// Step t - 1 needs ds, so R runs backward in time as well: subtracting c ⊗ k undoes the write. This is an addition,
// not a division, so the only error is rounding. A reset cannot be undone, so the matrix before it is rebuilt from the
// start of its segment.
#pragma once
#include "common.cuh"

namespace rfwp {

template <typename S, typename X, int D, typename Map>
__global__ void __launch_bounds__(D)
    feedback_forward(const X* input,                                    // [T, N, D]  z
                     const X* key,                                      // [T, N, D]
                     const X* value,                                    // [T, N, D]
                     const X* rate,                                     // [T, N]  β
                     const S* before, S* after,                         // [slots, D, D]  R, one row per value
                     const S* output_before, S* output_after,           // [slots, D]  y
                     const unsigned char* reset,                        // [T, B]  R and y are zero before step t
                     const long long* slots,                            // [N], or null: memory n is at n
                     X* output,                                         // [T, N, D]  y
                     S* query, S* error,                                // [T, N, D]  s, e, or null
                     S* kept,                                           // [T, N]  of the map, or null
                     int T, int N, int B) {
  __shared__ S queries[2][D], keys[2][D];
  __shared__ S scratch[2];
  const int i = threadIdx.x, n = blockIdx.x;
  const long long slot = slots ? slots[n] : n;
  S R[D];  // row i
  load_row<D>(R, before + slot * D * D);
  S y = output_before[slot * D + i];

  struct Inputs {
    S z, k, v, beta;
    unsigned char reset;
  };
  const auto inputs = [&](int t) -> Inputs {
    const long long step = static_cast<long long>(t) * N + n;
    return {load(input + step * D + i), load(key + step * D + i), load(value + step * D + i), load(rate + step),
            reset[t * B + n % B]};
  };
  Inputs next = inputs(0);
  for (int t = 0; t < T; ++t) {
    const Inputs now = next;
    if (t + 1 < T) next = inputs(t + 1);
    if (now.reset) {
      clear<D>(R);
      y = 0;
    }
    S *s = queries[t % 2], *k = keys[t % 2];
    S kept_s;
    const S own_s = Map::template apply<D>(y, scratch, kept_s);
    s[i] = own_s;
    k[i] = now.k;
    sync<D>();
    const S e = now.v - dot<D>(R, k);
    add_outer<D>(R, now.beta * e, k);
    y = now.z + dot<D>(R, s);
    const long long step = static_cast<long long>(t) * N + n, place = step * D + i;
    store(output + place, y);
    if (error) {
      error[place] = e;
      query[place] = own_s;
      if constexpr (Map::kKeeps) {
        if (i == 0) kept[step] = kept_s;
      }
    }
  }
  store_row<D>(R, after + slot * D * D);
  output_after[slot * D + i] = y;
}

// d_...: gradients, shaped like their tensors; d_output already has type S.
template <typename S, typename X, int D, typename Map>
__global__ void __launch_bounds__(D)
    feedback_backward(const X* key, const X* rate, const S* before, const S* after, const unsigned char* reset,
                      const S* query, const S* error, const S* kept, const S* d_output, const S* d_after,
                      const S* d_output_after, S* d_input, S* d_key, S* d_value, S* d_rate, S* d_before,
                      S* d_output_before, int T, int N, int B, int horizon) {
  __shared__ S vectors[2][5][D];
  __shared__ S scratch[2];
  const int i = threadIdx.x, n = blockIdx.x;
  const long long matrix = static_cast<long long>(n) * D * D;
  S R[D], G[D], G_column[D];  // column i of R; row i of G for G k, column i for Gᵀ c
  load_column<D>(R, after + matrix);
  load_row<D>(G, d_after + matrix);
  load_column<D>(G_column, d_after + matrix);
  S carry = d_output_after[n * D + i];

  struct Saved {
    S s, k, beta, e, dy, kept;
    unsigned char reset;
  };
  const auto saved = [&](int t) -> Saved {
    const long long step = static_cast<long long>(t) * N + n, place = step * D + i;
    return {query[place],    load(key + place),               load(rate + step),           error[place],
            d_output[place], Map::kKeeps ? kept[step] : S(0), reset[t * B + n % B]};
  };
  Saved next = saved(T - 1);
  for (int t = T - 1; t >= 0; --t) {
    const Saved now = next;
    if (t > 0) next = saved(t - 1);
    const long long step = static_cast<long long>(t) * N + n;
    S(&vector)[5][D] = vectors[t % 2];
    S *s = vector[0], *k = vector[1], *c = vector[2], *dy = vector[3], *dv = vector[4];
    const S own_dy = now.dy + carry;
    s[i] = now.s;
    k[i] = now.k;
    c[i] = now.beta * now.e;
    dy[i] = own_dy;
    sync<D>();
    const S ds = dot<D>(R, dy);
    add_outer<D>(G, own_dy, s);
    add_outer<D>(G_column, now.s, dy);
    const S dc = dot<D>(G, k);
    S dk = dot<D>(G_column, c);
    const S own_dv = now.beta * dc;
    dv[i] = own_dv;
    sync<D>();
    add_outer<D>(R, -now.k, c);  // undo the write: R is now that of step t - 1
    dk -= dot<D>(R, dv);
    add_outer<D>(G, -own_dv, k);
    add_outer<D>(G_column, -now.k, dv);
    const S d_beta = reduce<Sum, D>(dc * now.e, scratch);
    carry = Map::template gradient<D>(now.s, ds, scratch, now.kept);
    d_input[step * D + i] = own_dy;
    d_key[step * D + i] = dk;
    d_value[step * D + i] = own_dv;
    if (i == 0) d_rate[step] = d_beta;
    if (now.reset || horizon_at(t, horizon)) {
      carry = 0;
      clear<D>(G);
      clear<D>(G_column);
    }
    if (now.reset && t > 0) {
      rebuild_column<D>(R, t - 1, before + matrix, key, D, error, rate, reset, N, B, vectors[(t + 1) % 2][0]);
    }
  }
  store_row<D>(G, d_before + matrix);
  d_output_before[n * D + i] = carry;
}

}  // namespace rfwp
