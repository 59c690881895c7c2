// Runs CUDA C++ kernels on the CPU, for tests. Include it before the kernels.
//
// Each CUDA thread of a block is a fiber, and one thread of the operating system runs them all, one block after another.
// A fiber runs until it meets a barrier or a shuffle. Which of the runnable ones goes next is drawn from a seeded
// generator, one by one or a whole warp ahead of the others, so a kernel that relies on an order does not get it. Shared
// memory is filled with 0xff (NaN) before each block, so a read of what was never written shows.
//
// With -fsanitize=thread every CUDA thread is a thread to the sanitizer, and nothing but barriers orders memory between
// them: shuffles do not, as on a GPU. With -fsanitize=address the shared arrays of a kernel are fenced off.
#pragma once
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#if defined(__SANITIZE_THREAD__)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* object);
void __tsan_release(void* object);
}
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define UNSEEN __attribute__((no_sanitize("thread"), noinline))  // bookkeeping that the sanitizer must not see

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

#define __global__ static  // else the linker could merge its shared arrays, and the sanitizer would not fence them
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static  // in a section of its own it would get no fences
#else
#define __shared__ alignas(16) __attribute__((section("shared_memory"))) static
#endif
#define RFWP_SHARED_ARRAY(S, name) S* const name = reinterpret_cast<S*>(on_cpu::dynamic_shared())

extern "C" char __start_shared_memory[] __attribute__((weak));
extern "C" char __stop_shared_memory[] __attribute__((weak));

namespace on_cpu {

constexpr int kWarp = 32, kMaxThreads = 1024;
constexpr size_t kStack = 256 << 10;

enum class State { runnable, at_warp_barrier, at_block_barrier, done };

struct Thread {
  ucontext_t context;
  char* stack = nullptr;
  void* sanitizer_fiber = nullptr;
  void* fake_stack = nullptr;
  int index = 0;
  State state = State::done;
  uint64_t offered = 0;  // to the other lanes by a shuffle
  unsigned barriers_passed = 0;
};

inline Thread threads[kMaxThreads];
inline Thread* current;
inline ucontext_t scheduler;
inline void* scheduler_fiber;
inline void* scheduler_fake_stack;
inline const void* scheduler_stack;
inline size_t scheduler_stack_size;
inline dim3 block_index, block_size;
inline std::function<void()> kernel;
inline std::mt19937 order;
inline std::unique_ptr<char[]> dynamic_memory;
inline long block_begins, block_ends;
// An early thread's next arrival must not look as if it came before a late thread's departure: each barrier in turn
// has an object of its own, for the block and for each warp.
inline long barriers[4][1 + kMaxThreads / kWarp];

inline int barrier_left_out = -1;  // where a test has numbered the barriers

UNSEEN inline bool left_out(int barrier) { return barrier == barrier_left_out; }
UNSEEN inline char* dynamic_shared() { return dynamic_memory.get(); }
UNSEEN inline int thread_index() { return current->index; }
UNSEEN inline unsigned block_number() { return block_index.x; }

UNSEEN inline void release([[maybe_unused]] void* object) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(object);
#endif
}
UNSEEN inline void acquire([[maybe_unused]] void* object) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(object);
#endif
}

UNSEEN inline void pause() {
  Thread* me = current;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&me->fake_stack, scheduler_stack, scheduler_stack_size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(scheduler_fiber, 1);  // 1: a switch orders nothing
#endif
  swapcontext(&me->context, &scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(me->fake_stack, &scheduler_stack, &scheduler_stack_size);
#endif
}

UNSEEN inline void run_until_it_pauses(Thread& thread) {
  current = &thread;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, thread.stack, kStack);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(thread.sanitizer_fiber, 1);
#endif
  swapcontext(&scheduler, &thread.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
}

UNSEEN inline void thread_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
  for (;;) {  // one turn for each block
    acquire(&block_begins);
    kernel();
    release(&block_ends);
    current->state = State::done;
    pause();
  }
}

UNSEEN inline void wait(State barrier) {
  Thread* me = current;
  const int column = barrier == State::at_block_barrier ? 0 : 1 + me->index / kWarp;
  void* object = &barriers[me->barriers_passed++ % 4][column];
  release(object);
  me->state = barrier;
  pause();
  acquire(object);
}

// Meets the other lanes without ordering memory.
UNSEEN inline void meet_lanes() {
  current->state = State::at_warp_barrier;
  pause();
}

template <typename Value>
UNSEEN Value shuffle(Value value, int lane) {
  static_assert(sizeof(Value) <= sizeof(uint64_t));
  Thread* me = current;
  memcpy(&me->offered, &value, sizeof value);
  meet_lanes();
  const uint64_t taken = threads[me->index / kWarp * kWarp + lane].offered;
  meet_lanes();
  memcpy(&value, &taken, sizeof value);
  return value;
}

// A warp goes on as soon as all of its threads that still live have arrived.
UNSEEN inline void open_warp_barriers(int num_threads) {
  for (int first = 0; first < num_threads; first += kWarp) {
    const int end = std::min(first + kWarp, num_threads);
    bool all_arrived = true;
    for (int i = first; i < end; ++i) {
      all_arrived &= threads[i].state == State::at_warp_barrier || threads[i].state == State::done;
    }
    for (int i = first; all_arrived && i < end; ++i) {
      if (threads[i].state == State::at_warp_barrier) threads[i].state = State::runnable;
    }
  }
}

UNSEEN inline void run_block(int num_threads) {
  const bool warps_run_ahead = order() % 2;
  for (int i = 0; i < num_threads; ++i) {
    threads[i].state = State::runnable;
    threads[i].barriers_passed = 0;
  }
  for (;;) {
    std::vector<int> runnable;
    for (int i = 0; i < num_threads; ++i) {
      if (threads[i].state == State::runnable) runnable.push_back(i);
    }
    if (!runnable.empty()) {
      std::shuffle(runnable.begin(), runnable.end(), order);
      const int warp = runnable[0] / kWarp;
      for (int i : runnable) {
        if (!warps_run_ahead || i / kWarp == warp) run_until_it_pauses(threads[i]);
      }
      open_warp_barriers(num_threads);
      continue;
    }
    int alive = 0, at_block_barrier = 0;
    for (int i = 0; i < num_threads; ++i) {
      alive += threads[i].state != State::done;
      at_block_barrier += threads[i].state == State::at_block_barrier;
    }
    if (alive == 0) return;
    if (at_block_barrier != alive) {
      fprintf(stderr, "cuda_on_cpu: a GPU would hang: not all threads of block %u reach the barrier\n", block_index.x);
      abort();
    }
    for (int i = 0; i < num_threads; ++i) {
      if (threads[i].state == State::at_block_barrier) threads[i].state = State::runnable;
    }
  }
}

UNSEEN inline void create(Thread& thread, int index) {
  thread.index = index;
  if (thread.stack) return;
  thread.stack =
      static_cast<char*>(mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
#if defined(__SANITIZE_THREAD__)
  thread.sanitizer_fiber = __tsan_create_fiber(0);
#endif
  getcontext(&thread.context);
  thread.context.uc_stack.ss_sp = thread.stack;
  thread.context.uc_stack.ss_size = kStack;
  thread.context.uc_link = nullptr;
  makecontext(&thread.context, thread_main, 0);
}

// What `<<<num_blocks, num_threads, shared_bytes>>>` does, in an order drawn from `seed`.
UNSEEN inline void launch(unsigned num_blocks, unsigned num_threads, size_t shared_bytes, unsigned seed,
                          std::function<void()> body) {
  order.seed(seed);
  kernel = std::move(body);
  block_size = {num_threads};
#if defined(__SANITIZE_THREAD__)
  scheduler_fiber = __tsan_get_current_fiber();
#endif
  for (unsigned i = 0; i < num_threads; ++i) create(threads[i], static_cast<int>(i));
  dynamic_memory.reset(new char[shared_bytes]);
  std::vector<unsigned> blocks(num_blocks);
  for (unsigned i = 0; i < num_blocks; ++i) blocks[i] = i;
  std::shuffle(blocks.begin(), blocks.end(), order);
  for (unsigned block : blocks) {
    block_index = {block};
    memset(dynamic_memory.get(), 0xff, shared_bytes);
    if (__start_shared_memory) {
      memset(__start_shared_memory, 0xff, static_cast<size_t>(__stop_shared_memory - __start_shared_memory));
    }
    release(&block_begins);
    run_block(static_cast<int>(num_threads));
    acquire(&block_ends);
  }
}

struct ThreadIndex {
  unsigned x;
};

}  // namespace on_cpu

#define threadIdx (on_cpu::ThreadIndex{static_cast<unsigned>(on_cpu::thread_index())})
#define blockIdx (on_cpu::ThreadIndex{on_cpu::block_number()})
#define blockDim (on_cpu::block_size)

UNSEEN inline void __syncthreads() { on_cpu::wait(on_cpu::State::at_block_barrier); }
UNSEEN inline void __syncwarp(unsigned = ~0u) { on_cpu::wait(on_cpu::State::at_warp_barrier); }

template <typename Value>
UNSEEN Value __shfl_xor_sync(unsigned, Value value, int mask) {
  return on_cpu::shuffle(value, on_cpu::current->index % on_cpu::kWarp ^ mask);
}

inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline float __fdividef(float a, float b) { return a / b; }
template <typename Value>
Value rsqrt(Value x) {
  return 1 / std::sqrt(x);
}
