// Recurrent Delta Net: a Delta Net whose queries, keys, values and rates also depend on its last output.
//
//   s = tanh(y_{t-1})
//   q', k', v, b = x + R s            x from the slow projection, R slow weights of the head
//   q = f(q')    k = f(k')    β = σ(b)             f: the feature map
//   e = v - W_{t-1} k;    W_t = W_{t-1} + β e ⊗ k
//   y_t = W_t q
//
// Backward. dy is the gradient of y_t: d_read, plus `carry` from step t + 1 through s. G is the gradient of W_t,
// including dy ⊗ q. Then
//
//   dq = W_tᵀ dy     dc = G k     dk = Gᵀ c - W_{t-1}ᵀ dv     dv = β dc     db = (dc · e) β (1 - β)
//   dq' and dk': the map's gradients at dq and dk
//   G of step t - 1 = G - dv ⊗ k
//   carry of step t - 1 = (1 - s²) (R_qᵀ dq' + R_kᵀ dk' + R_vᵀ dv + r_b db)
//
// dy depends on step t + 1, so W runs backward in time with G: subtracting c ⊗ k undoes the write. This is an addition,
// not a division, so the only error is rounding. A reset cannot be undone, so the matrix before it is rebuilt from the
// start of its segment. The gradient of R is one matrix product of all s and dx, done by the caller.
#pragma once
#include "common.cuh"

namespace rfwp {

// A thread reads D numbers of each part of R at every step. If they do not fit in registers, they are in shared memory,
// with a pitch that spreads the threads' lines over all banks.
template <int D>
constexpr bool kFitsInRegisters = D <= 32;
template <int D>
constexpr int kPitch = D + 4;

// A line of R in shared memory for the product after the next barrier. It is read ahead of the barrier, if it fits in
// registers: after it, the product would wait for every few numbers.
template <int D, typename S>
class Line {
 public:
  RFWP_DEVICE explicit Line(const S* shared) : shared_(shared) {
    if constexpr (kFitsInRegisters<D>) {
#pragma unroll
      for (int i = 0; i < D; ++i) own_[i] = shared[i];
    }
  }
  RFWP_DEVICE S times(const S* vector) const { return dot<D>(kFitsInRegisters<D> ? own_ : shared_, vector); }

 private:
  const S* shared_;
  S own_[kFitsInRegisters<D> ? D : 1];
};

template <typename S, typename X, int D, typename Map>
__global__ void __launch_bounds__(D)
    rdn_forward(const X* slow,                                // [T, N, 3D + 1]  x
                const S* recurrent,                           // [H, D, 3D + 1]  R: what each number of s adds to x
                const S* before, S* after,                    // [slots, D, D]  W, one row per value
                const S* read_before, S* read_after,          // [slots, D]  y
                const unsigned char* reset,                   // [T, B]  W and y are zero before step t
                const long long* slots,                       // [N], or null: memory n is at n
                X* read,                                      // [T, N, D]  y
                S* query_key, S* error, S* rate, S* feedback,  // [T, N, 2, D], [T, N, D], [T, N], [T, N, D], or null
                S* kept,                                       // [T, N, 2]  of the map, for q and k, or null
                int T, int N, int B) {
  constexpr int P = 3 * D + 1;
  RFWP_SHARED_ARRAY(S, columns_of_all);  // [3, D, kPitch] unless in registers
  __shared__ S feedbacks[2][D], queries[2][D], keys[2][D];
  __shared__ S scratch[2];
  const int i = threadIdx.x, n = blockIdx.x;
  const S* R = recurrent + static_cast<long long>(n / B) * D * P;
  const long long slot = slots ? slots[n] : n;

  S own_columns[kFitsInRegisters<D> ? 3 * D : 1];
  S* columns[3];  // column i of R_q, R_k and R_v
#pragma unroll
  for (int part = 0; part < 3; ++part) {
    columns[part] = kFitsInRegisters<D> ? own_columns + part * D : columns_of_all + (part * D + i) * kPitch<D>;
#pragma unroll
    for (int j = 0; j < D; ++j) columns[part][j] = R[j * P + part * D + i];
  }
  const S r_b = R[i * P + 3 * D];
  S W[D];  // row i
  load_row<D>(W, before + slot * D * D);
  S y = read_before[slot * D + i];

  struct Inputs {
    S q, k, v, b;
    unsigned char reset;
  };
  const auto inputs = [&](int t) -> Inputs {
    const X* x = slow + (static_cast<long long>(t) * N + n) * P;
    return {load(x + i), load(x + D + i), load(x + 2 * D + i), load(x + 3 * D), reset[t * B + n % B]};
  };
  Inputs next = inputs(0);
  for (int t = 0; t < T; ++t) {
    const Inputs now = next;
    if (t + 1 < T) next = inputs(t + 1);
    if (now.reset) {
      clear<D>(W);
      y = 0;
    }
    // Double buffer: before a thread reuses a buffer, all others have passed a wait in between.
    S *s = feedbacks[t % 2], *q = queries[t % 2], *k = keys[t % 2];
    const S own_s = tanh(y);
    s[i] = own_s;
    sync<D>();
    S kept_q, kept_k;
    const S own_q = Map::template apply<D>(now.q + dot<D>(columns[0], s), scratch, kept_q);
    const S own_k = Map::template apply<D>(now.k + dot<D>(columns[1], s), scratch, kept_k);
    const S v = now.v + dot<D>(columns[2], s);
    const S beta = sigmoid(now.b + reduce<Sum, D>(r_b * own_s, scratch));
    q[i] = own_q;
    k[i] = own_k;
    sync<D>();
    const S e = v - dot<D>(W, k);
    add_outer<D>(W, beta * e, k);
    y = dot<D>(W, q);

    const long long step = static_cast<long long>(t) * N + n;
    store(read + step * D + i, y);
    if (error) {
      query_key[step * 2 * D + i] = own_q;
      query_key[step * 2 * D + D + i] = own_k;
      error[step * D + i] = e;
      feedback[step * D + i] = own_s;
      if (i == 0) {
        rate[step] = beta;
        if constexpr (Map::kKeeps) {
          kept[step * 2] = kept_q;
          kept[step * 2 + 1] = kept_k;
        }
      }
    }
  }
  store_row<D>(W, after + slot * D * D);
  read_after[slot * D + i] = y;
}

// d_...: gradients, shaped like their tensors; d_read already has type S. The other inputs were saved by rdn_forward.
template <typename S, int D, typename Map>
__global__ void __launch_bounds__(D)
    rdn_backward(const S* recurrent, const S* before, const S* after, const unsigned char* reset, const S* query_key,
                 const S* error, const S* rate, const S* feedback, const S* kept, const S* d_read, const S* d_after,
                 const S* d_read_after, S* d_slow, S* d_before, S* d_read_before, int T, int N, int B, int horizon) {
  constexpr int P = 3 * D + 1;
  RFWP_SHARED_ARRAY(S, rows_of_all);  // [3, D, kPitch]
  __shared__ S vectors[2][7][D];
  __shared__ S scratch[2];
  const int i = threadIdx.x, n = blockIdx.x;
  const S* R = recurrent + static_cast<long long>(n / B) * D * P;
  const long long matrix = static_cast<long long>(n) * D * D;

  // Threads share the loads, so that neighbouring threads read neighbouring addresses.
  for (int part = 0; part < 3; ++part) {
    for (int j = 0; j < D; ++j) rows_of_all[(part * D + j) * kPitch<D> + i] = R[j * P + part * D + i];
  }
  const S* row = rows_of_all + i * kPitch<D>;
  const S r_b = R[i * P + 3 * D];
  S W[D], G[D], G_column[D];  // column i of W; row i of G for G k, column i for Gᵀ c
  load_column<D>(W, after + matrix);
  load_row<D>(G, d_after + matrix);
  load_column<D>(G_column, d_after + matrix);
  S carry = d_read_after[n * D + i];

  struct Saved {
    S q, k, beta, e, s, dy, kept_q, kept_k;
    unsigned char reset;
  };
  const auto saved = [&](int t) -> Saved {
    const long long step = static_cast<long long>(t) * N + n, place = step * D + i;
    return {query_key[step * 2 * D + i],
            query_key[step * 2 * D + D + i],
            rate[step],
            error[place],
            feedback[place],
            d_read[place],
            Map::kKeeps ? kept[step * 2] : S(0),
            Map::kKeeps ? kept[step * 2 + 1] : S(0),
            reset[t * B + n % B]};
  };
  Saved next = saved(T - 1);
  for (int t = T - 1; t >= 0; --t) {
    const Saved now = next;
    if (t > 0) next = saved(t - 1);
    S(&vector)[7][D] = vectors[t % 2];
    S *q = vector[0], *k = vector[1], *c = vector[2], *dy = vector[3], *dv = vector[4], *dq_input = vector[5],
      *dk_input = vector[6];
    const S own_dy = now.dy + carry;
    q[i] = now.q;
    k[i] = now.k;
    c[i] = now.beta * now.e;
    dy[i] = own_dy;
    sync<D>();
    const S dq = dot<D>(W, dy);
    add_outer<D>(G, own_dy, q);
    add_outer<D>(G_column, now.q, dy);
    const S dc = dot<D>(G, k);
    S dk = dot<D>(G_column, c);
    const S own_dv = now.beta * dc;
    dv[i] = own_dv;
    const Line<D, S> row_v(row + 2 * D * kPitch<D>);
    sync<D>();
    add_outer<D>(W, -now.k, c);  // undo the write: W is now that of step t - 1
    dk -= dot<D>(W, dv);
    add_outer<D>(G, -own_dv, k);
    add_outer<D>(G_column, -now.k, dv);

    const S own_dq_input = Map::template gradient<D>(now.q, dq, scratch, now.kept_q);
    const S own_dk_input = Map::template gradient<D>(now.k, dk, scratch, now.kept_k);
    const S db = reduce<Sum, D>(dc * now.e, scratch) * now.beta * (S(1) - now.beta);
    dq_input[i] = own_dq_input;
    dk_input[i] = own_dk_input;
    const S ds_of_others = row_v.times(dv) + r_b * db;
    const Line<D, S> row_q(row), row_k(row + D * kPitch<D>);
    sync<D>();
    const S ds = row_q.times(dq_input) + row_k.times(dk_input) + ds_of_others;
    carry = ds * (S(1) - now.s * now.s);

    S* dx = d_slow + (static_cast<long long>(t) * N + n) * P;
    dx[i] = own_dq_input;
    dx[D + i] = own_dk_input;
    dx[2 * D + i] = own_dv;
    if (i == 0) dx[3 * D] = db;
    if (now.reset || horizon_at(t, horizon)) {
      carry = 0;
      clear<D>(G);
      clear<D>(G_column);
    }
    if (now.reset && t > 0) {
      rebuild_column<D>(W, t - 1, before + matrix, query_key + D, 2 * D, error, rate, reset, N, B,
                        vectors[(t + 1) % 2][0]);
    }
  }
  store_row<D>(G, d_before + matrix);
  d_read_before[n * D + i] = carry;
}

}  // namespace rfwp
