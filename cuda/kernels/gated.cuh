// The element-wise half of an LSTM or GRU step; the other half, the matrix product R h, is done by the caller.
//
// Each thread handles one hidden unit of one sequence. Resets are applied here, so the host never reads them: `*_next`
// is what the next step's product reads, already zero where that step starts an episode.
//
// blocked: no gradient crosses from this step to the one before, because of a reset or a gradient horizon.
#pragma once
#include "common.cuh"

namespace rfwp {

template <typename S>
RFWP_DEVICE S one_minus_square(S x) {
  return S(1) - x * x;
}

//   i, f, u, o = gates;  c_t = σ(f) c_{t-1} + σ(i) tanh(u);  h_t = σ(o) tanh(c_t)
template <typename S>
__global__ void lstm_forward(S* gates,                             // [B, 4, size]  in: i f u o; out: σ σ tanh σ of them
                             const S* cell_before, S* cell_after,  // [B, size]  c
                             const unsigned char* reset,           // [B]  of this step
                             const unsigned char* reset_next,      // [B]  of the next, or null
                             S* output, S* output_next,            // [B, size]  h
                             int B, int size) {
  const int unit = blockIdx.x * blockDim.x + threadIdx.x;
  if (unit >= B * size) return;
  const int b = unit / size;
  S* gate = gates + static_cast<long long>(b) * 4 * size + unit % size;
  const S i = sigmoid(gate[0]), f = sigmoid(gate[size]), u = tanh(gate[2 * size]), o = sigmoid(gate[3 * size]);
  const S c = f * (reset[b] ? S(0) : cell_before[unit]) + i * u;
  const S h = o * tanh(c);
  gate[0] = i;
  gate[size] = f;
  gate[2 * size] = u;
  gate[3 * size] = o;
  cell_after[unit] = c;
  output[unit] = h;
  output_next[unit] = reset_next && reset_next[b] ? S(0) : h;
}

template <typename S>
__global__ void lstm_backward(const S* gates,                              // [B, 4, size]  σ σ tanh σ of them
                              const S* cell_before, const S* cell_after,   // [B, size]  c
                              const unsigned char* reset,                  // [B]  of this step
                              const unsigned char* blocked,                // [B]  at this step
                              const unsigned char* blocked_next,           // [B]  at the next, or null
                              const S* d_output, const S* d_output_next,   // [B, size]
                              S* d_cell,                                   // [B, size]  in: of c_t, out: of c_{t-1}
                              S* d_gates,                                  // [B, 4, size]
                              int B, int size) {
  const int unit = blockIdx.x * blockDim.x + threadIdx.x;
  if (unit >= B * size) return;
  const int b = unit / size;
  const long long place = static_cast<long long>(b) * 4 * size + unit % size;
  const S *gate = gates + place;
  const S i = gate[0], f = gate[size], u = gate[2 * size], o = gate[3 * size];
  const S before = reset[b] ? S(0) : cell_before[unit];
  const S tanh_c = tanh(cell_after[unit]);
  const S dh = d_output[unit] + (blocked_next && blocked_next[b] ? S(0) : d_output_next[unit]);
  const S dc = d_cell[unit] + dh * o * one_minus_square(tanh_c);
  S* d_gate = d_gates + place;
  d_gate[0] = dc * u * i * (S(1) - i);
  d_gate[size] = dc * before * f * (S(1) - f);
  d_gate[2 * size] = dc * i * one_minus_square(u);
  d_gate[3 * size] = dh * tanh_c * o * (S(1) - o);
  d_cell[unit] = blocked[b] ? S(0) : dc * f;
}

//   r, z, u from the input;  r', z', u' from h_{t-1};  n = tanh(u + σ(r + r') u');  h_t = n + σ(z + z') (h_{t-1} − n)
template <typename S>
__global__ void gru_forward(const S* from_input, const S* from_past,  // [B, 3, size]  r z u, r' z' u'
                            const S* before,                          // [B, size]  h_{t-1}, zero where reset
                            const unsigned char* reset_next,          // [B]  of the next step, or null
                            S* output, S* output_next,                // [B, size]  h
                            S* gates,                                 // [B, 4, size]  σ(r + r') σ(z + z') n u'
                            int B, int size) {
  const int unit = blockIdx.x * blockDim.x + threadIdx.x;
  if (unit >= B * size) return;
  const int b = unit / size;
  const S* x = from_input + static_cast<long long>(b) * 3 * size + unit % size;
  const S* past = from_past + static_cast<long long>(b) * 3 * size + unit % size;
  const S r = sigmoid(x[0] + past[0]), z = sigmoid(x[size] + past[size]);
  const S n = tanh(x[2 * size] + r * past[2 * size]);
  const S h = n + z * (before[unit] - n);
  S* gate = gates + static_cast<long long>(b) * 4 * size + unit % size;
  gate[0] = r;
  gate[size] = z;
  gate[2 * size] = n;
  gate[3 * size] = past[2 * size];
  output[unit] = h;
  output_next[unit] = reset_next && reset_next[b] ? S(0) : h;
}

template <typename S>
__global__ void gru_backward(const S* gates,                             // [B, 4, size]  as saved
                             const S* before,                            // [B, size]  h_{t-1}, zero where reset
                             const unsigned char* blocked_next,          // [B]  at the next step, or null
                             const S* d_output, const S* d_output_next,  // [B, size]
                             S* d_from_input, S* d_from_past,            // [B, 3, size]
                             S* d_before,                                // [B, size]  without the share of R h
                             int B, int size) {
  const int unit = blockIdx.x * blockDim.x + threadIdx.x;
  if (unit >= B * size) return;
  const int b = unit / size;
  const S* gate = gates + static_cast<long long>(b) * 4 * size + unit % size;
  const S r = gate[0], z = gate[size], n = gate[2 * size], u_past = gate[3 * size];
  const S dh = d_output[unit] + (blocked_next && blocked_next[b] ? S(0) : d_output_next[unit]);
  const S dn = dh * (S(1) - z) * one_minus_square(n);
  const S dr = dn * u_past * r * (S(1) - r);
  const S dz = dh * (before[unit] - n) * z * (S(1) - z);
  const long long place = static_cast<long long>(b) * 3 * size + unit % size;
  S *dx = d_from_input + place, *d_past = d_from_past + place;
  dx[0] = dr;
  dx[size] = dz;
  dx[2 * size] = dn;
  d_past[0] = dr;
  d_past[size] = dz;
  d_past[2 * size] = dn * r;
  d_before[unit] = dh * z;
}

}  // namespace rfwp
