// Shared parts of the fast weight kernels: how the work is divided, and the basic operations.
//
// One block handles one memory: the fast weights W of one head in one sequence. It has D threads, one per row (or
// column) of the D x D matrix. A thread keeps its row in registers from the first step of an unroll to the last.
// Vectors that every thread needs pass through shared memory. A product W k is then D multiply-adds in each thread, and
// threads wait for each other only to exchange a vector. There are no atomic sums and every sum has a fixed order, so
// the same inputs give the same bits on every run.
//
// S is the type of states, arithmetic and gradients: float, or double where the CPU checks the derivations.
// X is the type of inputs and outputs: S, or BFloat16.
//
// Arrays are time first. N = num_heads * B memories, heads first: memory n belongs to head n / B and to sequence n % B.
#pragma once

namespace rfwp {

#define RFWP_DEVICE __device__ __forceinline__
// The block's dynamic shared memory; the launch sets its size.
#ifndef RFWP_SHARED_ARRAY
#define RFWP_SHARED_ARRAY(S, name)                                    \
  extern __shared__ __align__(16) unsigned char rfwp_shared_bytes[]; \
  S* const name = reinterpret_cast<S*>(rfwp_shared_bytes)
#endif

struct BFloat16 {
  unsigned short bits;
};

RFWP_DEVICE float load(const float* from) { return *from; }
RFWP_DEVICE double load(const double* from) { return *from; }
RFWP_DEVICE float load(const BFloat16* from) { return __uint_as_float(static_cast<unsigned>(from->bits) << 16); }

RFWP_DEVICE void store(float* to, float value) { *to = value; }
RFWP_DEVICE void store(double* to, double value) { *to = value; }
RFWP_DEVICE void store(BFloat16* to, float value) {
  const unsigned bits = __float_as_uint(value);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  // Round to nearest, ties to even; keep NaN from rounding to infinity.
  to->bits = static_cast<unsigned short>(is_nan ? 0x7fc0u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

RFWP_DEVICE float greater(float a, float b) { return fmaxf(a, b); }
RFWP_DEVICE double greater(double a, double b) { return fmax(a, b); }

// a / b for a divisor of normal size, to 2 units in the last place: without the branch that a correct rounding takes.
RFWP_DEVICE float quotient(float a, float b) { return __fdividef(a, b); }
RFWP_DEVICE double quotient(double a, double b) { return a / b; }

template <typename S>
RFWP_DEVICE S sigmoid(S x) {
  return quotient(S(1), S(1) + exp(-x));
}

// Waits for all D threads of the block, and makes their writes to shared memory visible.
template <int D>
RFWP_DEVICE void sync() {
  if constexpr (D < 32) {
    __syncwarp((1u << D) - 1u);
  } else if constexpr (D == 32) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

struct Sum {
  template <typename S>
  RFWP_DEVICE static S join(S a, S b) {
    return a + b;
  }
};

struct Maximum {
  template <typename S>
  RFWP_DEVICE static S join(S a, S b) {
    return greater(a, b);
  }
};

// Joins one value per thread; all threads get the result. scratch: 2 numbers, used if the block has two warps.
template <typename Join, int D, typename S>
RFWP_DEVICE S reduce(S value, S* scratch) {
  constexpr int kLanes = D < 32 ? D : 32;
  constexpr unsigned kMask = D < 32 ? (1u << (D & 31)) - 1u : 0xffffffffu;
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value = Join::join(value, __shfl_xor_sync(kMask, value, offset));
  }
  if constexpr (D > 32) {
    static_assert(D == 64, "two warps");
    sync<D>();  // the last reader of scratch has read
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
    sync<D>();
    value = Join::join(scratch[0], scratch[1]);
  }
  return value;
}

// Feature maps of a vector with one number per thread. `apply` returns the features f of z; `gradient` turns the gradient
// of f into that of z. A map may keep one number per vector for its gradient; all threads have the same.
struct Softmax {
  static constexpr bool kKeeps = false;
  template <int D, typename S>
  RFWP_DEVICE static S apply(S z, S* scratch, S&) {
    const S weight = exp(z - reduce<Maximum, D>(z, scratch));
    return quotient(weight, reduce<Sum, D>(weight, scratch));
  }
  template <int D, typename S>
  RFWP_DEVICE static S gradient(S f, S df, S* scratch, S) {
    return f * (df - reduce<Sum, D>(f * df, scratch));
  }
};

struct UnitLength {  // z / √(‖z‖² + 1e-6)
  static constexpr bool kKeeps = true;
  template <int D, typename S>
  RFWP_DEVICE static S apply(S z, S* scratch, S& inverse_length) {
    inverse_length = rsqrt(reduce<Sum, D>(z * z, scratch) + S(1e-6));
    return z * inverse_length;
  }
  template <int D, typename S>
  RFWP_DEVICE static S gradient(S f, S df, S* scratch, S inverse_length) {
    return inverse_length * (df - f * reduce<Sum, D>(f * df, scratch));
  }
};

// The thread's line of a matrix times a vector in shared memory. Four chains, because one would wait for each sum.
template <int D, typename S>
RFWP_DEVICE S dot(const S* line, const S* vector) {
  S sums[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < D; i += 4) {
#pragma unroll
    for (int chain = 0; chain < 4; ++chain) sums[chain] += line[i + chain] * vector[i + chain];
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// line += own * vector: adds an outer product to a matrix of which every thread holds one line.
template <int D, typename S>
RFWP_DEVICE void add_outer(S* line, S own, const S* vector) {
#pragma unroll
  for (int i = 0; i < D; ++i) line[i] += own * vector[i];
}

template <int D, typename S>
RFWP_DEVICE void scale(S* line, S factor) {
#pragma unroll
  for (int i = 0; i < D; ++i) line[i] *= factor;
}

template <int D, typename S>
RFWP_DEVICE void clear(S* line) {
#pragma unroll
  for (int i = 0; i < D; ++i) line[i] = 0;
}

// Load or store this thread's row or column of a row-major D x D matrix.
template <int D, typename S>
RFWP_DEVICE void load_row(S* line, const S* matrix) {
#pragma unroll
  for (int i = 0; i < D; ++i) line[i] = matrix[threadIdx.x * D + i];
}

template <int D, typename S>
RFWP_DEVICE void load_column(S* line, const S* matrix) {
#pragma unroll
  for (int i = 0; i < D; ++i) line[i] = matrix[i * D + threadIdx.x];
}

template <int D, typename S>
RFWP_DEVICE void store_row(const S* line, S* matrix) {
#pragma unroll
  for (int i = 0; i < D; ++i) matrix[threadIdx.x * D + i] = line[i];
}

// True if a gradient horizon ends at step t, so no gradient crosses to the step before. 0 means no horizon.
RFWP_DEVICE bool horizon_at(int t, int horizon) { return horizon > 0 && t % horizon == 0; }

// Rebuilds the thread's column of a matrix that the delta rule wrote, as it was after step `last`.
//
// Adds β e ⊗ k again from the last reset on, in the order of the forward pass, so the result has the same bits.
// before: the matrix before step 0. key, error: [T, N, ...] with key_size numbers of key and D of error per memory;
// rate: [T, N]. vector: D numbers of shared memory that no thread still reads.
template <int D, typename S, typename K, typename Rate>
RFWP_DEVICE void rebuild_column(S* W, int last, const S* before, const K* key, int key_size, const S* error,
                                const Rate* rate, const unsigned char* reset, int N, int B, S* vector) {
  const int i = threadIdx.x, n = blockIdx.x;
  int first = last;
  while (first > 0 && !reset[first * B + n % B]) --first;
  if (reset[first * B + n % B]) {
    clear<D>(W);
  } else {
    load_column<D>(W, before);
  }
  for (int t = first; t <= last; ++t) {
    const long long step = static_cast<long long>(t) * N + n;
    vector[i] = load(rate + step) * error[step * D + i];
    sync<D>();
    add_outer<D>(W, load(key + step * key_size + i), vector);
    sync<D>();
  }
}

}  // namespace rfwp
