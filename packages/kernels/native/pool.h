// Threads of the process, shared by every JavaScript thread that calls kernels.
#pragma once
#include <cstdint>

namespace finetable {

typedef void (*RangeBody)(void* context, int64_t begin, int64_t end);

// Calls `body` for ranges of about `grain` that cover [0, count), on up to `threads` threads with the calling one; returns when
// all are done. Ranges are handed out one by one, so a thread that comes late or is held up costs one range. What makes less
// than two of them, and anything while the pool serves another JavaScript thread, the caller does alone.
void run_ranges(int threads, int64_t count, int64_t grain, RangeBody body, void* context);

// Bytes that one range should move, about 40 µs of random reads: short enough that a late thread costs little, long
// enough that handing it out costs nothing.
constexpr int64_t range_bytes = 192 << 10;

inline int64_t grain_of(int64_t bytes_each) { return 1 + range_bytes / (bytes_each + 1); }

template <class Body>
void parallel(int threads, int64_t count, int64_t grain, Body body) {
  run_ranges(threads, count, grain, [](void* context, int64_t begin, int64_t end) { (*(Body*)context)(begin, end); }, &body);
}

}  // namespace finetable
