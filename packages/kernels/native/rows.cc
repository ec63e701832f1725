// Row stores: making, filling and reading them.
#include "functions.h"

#include <errno.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "pool.h"

namespace finetable {
namespace {

const char* errno_name(int error) {
  switch (error) {
    case ENOMEM: return "ENOMEM";
    case ENODEV: return "ENODEV";
    case EOVERFLOW: return "EOVERFLOW";
    case EACCES: return "EACCES";
    default: return "EIO";
  }
}

napi_value fail_with_errno(Call& call, int error) { return call.fail(errno_name(error), strerror(error)); }

napi_value create_rows(Call& call) {
  const uint64_t bytes = (uint64_t)call.number(0);
  std::shared_ptr<Region> region = Region::anonymous(bytes, false);
  if (!region) return fail_with_errno(call, errno);
  return call.owned(new Rows{std::move(region)});
}

napi_value map_rows(Call& call) {
  const int descriptor = (int)call.integer(0);
  std::shared_ptr<Region> region = Region::file(descriptor, (uint64_t)call.number(1), (uint64_t)call.number(2));
  if (!region) return fail_with_errno(call, errno);
  return call.owned(new Rows{std::move(region)});
}

// 0, an errno, or -1 where the file ends too early.
int read_fully(int descriptor, char* out, int64_t bytes, int64_t offset) {
  while (bytes > 0) {
    // Linux reads at most 2 GiB less a page at once.
    const ssize_t count = pread(descriptor, out, (size_t)bytes, (off_t)offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) return -1;
    out += count;
    bytes -= count;
    offset += count;
  }
  return 0;
}

napi_value read_rows(Call& call) {
  const Context& context = call.context(0);
  const int descriptor = (int)call.integer(1);
  const int64_t offset = call.integer(2), bytes = call.integer(3);
  // All of it will be written, so the system is asked whether it has that much.
  std::shared_ptr<Region> region = Region::anonymous((uint64_t)bytes, true);
  if (!region) return fail_with_errno(call, errno);
  std::atomic<int> error{0};
  constexpr int64_t grain = 4 << 20;
  parallel(context.threads, bytes, grain, [&](int64_t begin, int64_t end) {
    if (error != 0) return;
    const int found = read_fully(descriptor, region->data() + begin, end - begin, offset + begin);
    if (found != 0) error = found;
  });
  if (error < 0) return call.fail("EOF", "the file became shorter while it was read");
  if (error > 0) return fail_with_errno(call, error);
  return call.owned(new Rows{std::move(region)});
}

napi_value close_rows(Call& call) {
  Rows* rows = call.rows(0);
  if (rows) rows->region.reset();
  return nullptr;
}

napi_value gather_rows(Call& call) {
  const Context& context = call.context(0);
  GatherArgs a;
  int64_t count;
  a.data = call.memory(1);
  a.dim = call.integer(2);
  a.half = call.boolean(3);
  a.rows = call.ints(4, &count);
  a.out = call.floats_out(5);
  if (call.wrong()) return nullptr;
  const int64_t grain = 1 + (128 << 10) / (a.dim * 4);
  parallel(context.threads, count, grain, [&](int64_t begin, int64_t end) { context.ops->gather(a, begin, end); });
  return nullptr;
}

// Nearest, ties to even; overflow gives infinity. As f32ToF16 of @finetable/core.
uint16_t half_from_float(float value) {
  uint32_t x;
  memcpy(&x, &value, sizeof x);
  const uint32_t sign = (x >> 16) & 0x8000, magnitude = x & 0x7fffffff;
  if (magnitude >= 0x7f800000) return (uint16_t)(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
  if (magnitude >= 0x38800000) {
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
  }
  // Subnormal: adding 0.5, whose last place is 2^-24, rounds to a multiple of that.
  float positive;
  memcpy(&positive, &magnitude, sizeof positive);
  positive += 0.5f;
  memcpy(&x, &positive, sizeof x);
  return (uint16_t)(sign | (x - 0x3f000000));
}

// On one thread: a row given twice keeps its last value.
napi_value scatter_rows(Call& call) {
  char* data = call.memory(0);
  const int64_t dim = call.integer(1);
  const bool half = call.boolean(2);
  int64_t count;
  const int32_t* rows = call.ints(3, &count);
  const float* values = call.floats(4);
  if (call.wrong()) return nullptr;
  for (int64_t i = 0; i < count; i++) {
    const float* from = values + i * dim;
    if (!half) {
      memcpy((float*)data + rows[i] * dim, from, (size_t)dim * sizeof(float));
      continue;
    }
    uint16_t* to = (uint16_t*)data + rows[i] * dim;
    for (int64_t c = 0; c < dim; c++) to[c] = half_from_float(from[c]);
  }
  return nullptr;
}

napi_value read_bytes(Call& call) {
  const char* data = call.memory(0);
  const int64_t offset = call.integer(1);
  int64_t length;
  uint8_t* out = call.bytes(2, &length);
  if (!call.wrong()) memcpy(out, data + offset, (size_t)length);
  return nullptr;
}

napi_value write_bytes(Call& call) {
  char* data = call.memory(0);
  const int64_t offset = call.integer(1);
  int64_t length;
  const uint8_t* bytes = call.bytes(2, &length);
  if (!call.wrong()) memcpy(data + offset, bytes, (size_t)length);
  return nullptr;
}

napi_value mapped_files(Call& call) { return call.result((double)mapped_regions()); }

}  // namespace

const NamedFunction row_functions[] = {
    {"createRows", entry<create_rows>}, {"mapRows", entry<map_rows>},         {"readRows", entry<read_rows>},
    {"closeRows", entry<close_rows>},   {"gatherRows", entry<gather_rows>},   {"scatterRows", entry<scatter_rows>},
    {"readBytes", entry<read_bytes>},   {"writeBytes", entry<write_bytes>},   {"mappedFiles", entry<mapped_files>},
    {nullptr, nullptr},
};

}  // namespace finetable
