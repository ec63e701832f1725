// Row stores: making, filling and reading them.
#include "functions.h"

#include <errno.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <new>

#include "encode.h"
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

// A view from arguments `i` (rows, dim, dtype, groupDims), of compact rows that lie nowhere yet.
RowsView read_view(Call& call, int i) {
  RowsView view = {};
  view.rows = call.integer(i);
  view.dim = call.integer(i + 1);
  view.dtype = (Dtype)call.integer(i + 2);
  view.group = call.integer(i + 3);
  view.stride = element_bytes(view.dtype, view.dim);
  view.scale_stride = view.group == 0 ? 0 : (view.dim + view.group - 1) / view.group * 4;
  return view;
}

// Rows of some bytes each, at some distance from each other: the elements of a store, or its scales.
struct Stretch {
  int64_t rows, row_bytes, stride;
  int64_t span() const { return rows == 0 ? 0 : (rows - 1) * stride + row_bytes; }
};

// Memory for compact rows. All of it will be written where `reserve` is set; the system is then asked whether it has that
// much. False with errno set.
bool make_memory(Rows& rows, bool reserve) {
  RowsView& view = rows.view;
  rows.elements = Region::anonymous((uint64_t)(view.rows * view.stride), reserve);
  if (!rows.elements) return false;
  view.data = rows.elements->data();
  if (view.group == 0) return true;
  rows.scales = Region::anonymous((uint64_t)(view.rows * view.scale_stride), reserve);
  if (!rows.scales) return false;
  view.scales = rows.scales->data();
  return true;
}

// (rows, dim, dtype, groupDims)
napi_value create_rows(Call& call) {
  std::unique_ptr<Rows> rows(new Rows{read_view(call, 0), nullptr, nullptr});
  if (call.wrong()) return nullptr;
  if (!make_memory(*rows, false)) return fail_with_errno(call, errno);
  return call.owned(rows.release());
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

// As `read_fully`, for rows that become compact.
int read_stretch(int descriptor, char* out, const Stretch& from, int64_t offset) {
  if (from.row_bytes == from.stride) return read_fully(descriptor, out, from.span(), offset);
  // What lies between is read too, many rows at once, where that is less work than a call for each row.
  constexpr int64_t most_bytes = 1 << 20;
  const int64_t at_once = from.stride < 16 << 10 ? most_bytes / from.stride : 1;
  const std::unique_ptr<char[]> bytes(new (std::nothrow) char[(size_t)Stretch{at_once, from.row_bytes, from.stride}.span()]);
  if (!bytes) return ENOMEM;
  for (int64_t row = 0; row < from.rows; row += at_once) {
    const int64_t count = from.rows - row < at_once ? from.rows - row : at_once;
    const int64_t span = Stretch{count, from.row_bytes, from.stride}.span();
    const int error = read_fully(descriptor, bytes.get(), span, offset + row * from.stride);
    if (error != 0) return error;
    for (int64_t i = 0; i < count; i++) {
      memcpy(out + (row + i) * from.row_bytes, bytes.get() + i * from.stride, (size_t)from.row_bytes);
    }
  }
  return 0;
}

int read_in_parallel(int threads, int descriptor, char* out, const Stretch& from, int64_t offset) {
  std::atomic<int> error{0};
  const int64_t grain = 1 + (4 << 20) / from.stride;
  parallel(threads, from.rows, grain, [&](int64_t begin, int64_t end) {
    if (error != 0) return;
    const Stretch part{end - begin, from.row_bytes, from.stride};
    const int found = read_stretch(descriptor, out + begin * from.row_bytes, part, offset + begin * from.stride);
    if (found != 0) error = found;
  });
  return error;
}

// Part of a file, mapped: null with errno set, or 0 where the file is too short.
std::shared_ptr<Region> map_stretch(int descriptor, const Stretch& from, int64_t offset, const char** data) {
  std::shared_ptr<Region> region = Region::file(descriptor);
  if (!region) return nullptr;
  // No rows begin anywhere, perhaps beyond the end of an empty table.
  *data = region->data() + (from.rows == 0 ? 0 : offset);
  if (from.rows == 0 || (uint64_t)(offset + from.span()) <= region->bytes()) return region;
  errno = 0;
  return nullptr;
}

// (context, mapped, rows, dim, dtype, groupDims, descriptor, offset, stride, scalesDescriptor, scalesOffset, scaleStride):
// offsets are those of the first row's bytes, strides those from row to row of the file.
napi_value open_rows(Call& call) {
  const Context& context = call.context(0);
  const bool mapped = call.boolean(1);
  std::unique_ptr<Rows> rows(new Rows{read_view(call, 2), nullptr, nullptr});
  const int descriptor = (int)call.integer(6), scales_descriptor = (int)call.integer(9);
  const int64_t offset = call.integer(7), scales_offset = call.integer(10);
  if (call.wrong()) return nullptr;
  RowsView& view = rows->view;
  const Stretch elements{view.rows, view.stride, call.integer(8)}, scales{view.rows, view.scale_stride, call.integer(11)};
  const bool scaled = view.group != 0;
  int error = 0;
  if (mapped) {
    rows->elements = map_stretch(descriptor, elements, offset, &view.data);
    if (!rows->elements) error = errno ? errno : -1;
    view.stride = elements.stride;
    if (error == 0 && scaled) {
      rows->scales = map_stretch(scales_descriptor, scales, scales_offset, &view.scales);
      if (!rows->scales) error = errno ? errno : -1;
      view.scale_stride = scales.stride;
    }
  } else {
    if (!make_memory(*rows, true)) return fail_with_errno(call, errno);
    error = read_in_parallel(context.threads, descriptor, rows->elements->data(), elements, offset);
    if (error == 0 && scaled) {
      error = read_in_parallel(context.threads, scales_descriptor, rows->scales->data(), scales, scales_offset);
    }
  }
  if (error < 0) return call.fail("EOF", "the file became shorter while it was read");
  if (error > 0) return fail_with_errno(call, error);
  return call.owned(rows.release());
}

napi_value close_rows(Call& call) {
  Rows* rows = call.rows(0);
  if (!rows) return nullptr;
  rows->elements.reset();
  rows->scales.reset();
  return nullptr;
}

// (context, from, rows, out)
napi_value gather_rows(Call& call) {
  const Context& context = call.context(0);
  const Rows* from = call.open_rows(1);
  int64_t count;
  GatherArgs a = {};
  a.rows = call.ints(2, &count);
  a.out = call.floats_out(3);
  if (call.wrong() || !from) return nullptr;
  a.from = from->view;
  const int64_t grain = 1 + (128 << 10) / (a.from.dim * 4);
  parallel(context.threads, count, grain, [&](int64_t begin, int64_t end) { context.ops->gather(a, begin, end); });
  return nullptr;
}

// (to, rows, values), on one thread: a row given twice keeps its last value.
napi_value scatter_rows(Call& call) {
  const Rows* to = call.open_rows(0);
  int64_t count;
  const int32_t* rows = call.ints(1, &count);
  const float* values = call.floats(2);
  if (call.wrong() || !to) return nullptr;
  for (int64_t i = 0; i < count; i++) encode_row(to->view, rows[i], values + i * to->view.dim);
  return nullptr;
}

// Calls copy(address, position, bytes) for the pieces of stored bytes [offset, offset + length), which are compact elements
// and then compact scales, `position` counting from `offset`.
template <class Copy>
void for_stored(const RowsView& view, int64_t offset, int64_t length, Copy copy) {
  const Stretch parts[] = {{view.rows, element_bytes(view.dtype, view.dim), view.stride},
                           {view.rows, view.group == 0 ? 0 : (view.dim + view.group - 1) / view.group * 4, view.scale_stride}};
  const char* const addresses[] = {view.data, view.scales};
  int64_t begin = offset;
  const int64_t end = offset + length;
  int64_t part_begin = 0;
  for (int i = 0; i < 2; i++) {
    const Stretch& part = parts[i];
    const int64_t part_end = part_begin + part.rows * part.row_bytes;
    while (begin < end && begin < part_end) {
      const int64_t at = begin - part_begin;
      const bool compact = part.row_bytes == part.stride;
      const int64_t row = compact ? 0 : at / part.row_bytes, within = compact ? at : at % part.row_bytes;
      const int64_t left = (end < part_end ? end : part_end) - begin;
      const int64_t bytes = compact || left < part.row_bytes - within ? left : part.row_bytes - within;
      copy(addresses[i] + row * part.stride + within, begin - offset, bytes);
      begin += bytes;
    }
    part_begin = part_end;
  }
}

// (from, byteOffset, out)
napi_value read_bytes(Call& call) {
  const Rows* from = call.open_rows(0);
  const int64_t offset = call.integer(1);
  int64_t length;
  uint8_t* out = call.bytes(2, &length);
  if (call.wrong() || !from) return nullptr;
  for_stored(from->view, offset, length, [&](const char* stored, int64_t position, int64_t bytes) {
    memcpy(out + position, stored, (size_t)bytes);
  });
  return nullptr;
}

// (from, rows, out)
napi_value read_rows(Call& call) {
  const Rows* from = call.open_rows(0);
  int64_t count, length;
  const int32_t* rows = call.ints(1, &count);
  uint8_t* out = call.bytes(2, &length);
  if (call.wrong() || !from) return nullptr;
  const RowsView& view = from->view;
  const int64_t row_bytes = element_bytes(view.dtype, view.dim);
  for (int64_t i = 0; i < count; i++) memcpy(out + i * row_bytes, view.data + rows[i] * view.stride, (size_t)row_bytes);
  return nullptr;
}

// (to, byteOffset, bytes)
napi_value write_bytes(Call& call) {
  const Rows* to = call.open_rows(0);
  const int64_t offset = call.integer(1);
  int64_t length;
  const uint8_t* from = call.bytes(2, &length);
  if (call.wrong() || !to) return nullptr;
  for_stored(to->view, offset, length, [&](const char* stored, int64_t position, int64_t bytes) {
    memcpy(const_cast<char*>(stored), from + position, (size_t)bytes);
  });
  return nullptr;
}

napi_value count_mapped_files(Call& call) { return call.result((double)mapped_files()); }

}  // namespace

const NamedFunction row_functions[] = {
    {"createRows", entry<create_rows>}, {"openRows", entry<open_rows>},       {"closeRows", entry<close_rows>},
    {"gatherRows", entry<gather_rows>}, {"scatterRows", entry<scatter_rows>}, {"readBytes", entry<read_bytes>},
    {"readRows", entry<read_rows>},     {"writeBytes", entry<write_bytes>},   {"mappedFiles", entry<count_mapped_files>},
    {nullptr, nullptr},
};

}  // namespace finetable
