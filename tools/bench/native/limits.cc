// What memory can do at best: rows read at random, memory read in order, memory copied. The benchmarks compare lookups with these.
// Not part of the kernels. Regions are anonymous memory in 2 MiB pages where the system has them, every page there from the start.
#include <node_api.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr int64_t line = 64;
constexpr size_t huge_page = 2 << 20;

typedef float V __attribute__((vector_size(32), may_alias));

struct Region {
  char* mapped;
  size_t length;
  char* data;
};

// Where checksums go, so that no read can be left out.
volatile float sink;

// ---- the loops ----

struct Rows {
  const char* data;
  const int32_t* ids;
  // Rows of A, one for each place whose slot is not negative; null without an adapter.
  const char* factors;
  const int32_t* slots;
  int64_t factor_bytes;
};

// Hints as in __builtin_prefetch (3: all caches, 0: non-temporal); -1 for none.
template <int Hint>
inline void prefetch(const char* at) {
  __builtin_prefetch(at, 0, Hint < 0 ? 0 : Hint);
}

template <int Lines, bool Factors, int Hint>
inline void prefetch_place(const Rows& r, int64_t place) {
  if (Hint < 0) return;
  const char* row = r.data + r.ids[place] * (Lines * line);
  for (int i = 0; i < Lines; i++) prefetch<Hint>(row + i * line);
  if (Factors && r.slots[place] >= 0) prefetch<Hint>(r.factors + r.slots[place] * r.factor_bytes);
}

// Reads the lines of places [begin, end): whole, or one number of each line.
template <int Lines, bool Factors, bool Whole, int Hint>
float read_rows(const Rows& r, int64_t begin, int64_t end, int64_t ahead) {
  V sums[8] = {};
  float numbers[4] = {};
  for (int64_t place = begin; place < end; place++) {
    if (place + ahead < end) prefetch_place<Lines, Factors, Hint>(r, place + ahead);
    const char* row = r.data + r.ids[place] * (Lines * line);
    if (Whole) {
      for (int i = 0; i < Lines * 2; i++) sums[i % 8] += ((const V*)row)[i];
    } else {
      for (int i = 0; i < Lines; i++) numbers[i % 4] += *(const float*)(row + i * line);
    }
    if (!Factors || r.slots[place] < 0) continue;
    const char* factors = r.factors + r.slots[place] * r.factor_bytes;
    if (Whole) {
      for (int64_t i = 0; i < r.factor_bytes / 32; i++) sums[i % 8] += ((const V*)factors)[i];
    } else {
      numbers[0] += *(const float*)factors;
    }
  }
  V sum = {};
  for (const V& part : sums) sum += part;
  return sum[0] + sum[7] + numbers[0] + numbers[1] + numbers[2] + numbers[3];
}

using ReadRows = float (*)(const Rows&, int64_t, int64_t, int64_t);

template <int Lines, bool Factors, bool Whole>
ReadRows with_hint(int hint) {
  switch (hint) {
    case 3: return read_rows<Lines, Factors, Whole, 3>;
    case 2: return read_rows<Lines, Factors, Whole, 2>;
    case 1: return read_rows<Lines, Factors, Whole, 1>;
    case 0: return read_rows<Lines, Factors, Whole, 0>;
    default: return read_rows<Lines, Factors, Whole, -1>;
  }
}

template <int Lines>
ReadRows reader(bool factors, bool whole, int hint) {
  if (factors) return whole ? with_hint<Lines, true, true>(hint) : with_hint<Lines, true, false>(hint);
  return whole ? with_hint<Lines, false, true>(hint) : with_hint<Lines, false, false>(hint);
}

float read_in_order(const char* data, int64_t bytes) {
  V sums[8] = {};
  for (int64_t at = 0; at + 256 <= bytes; at += 256) {
    for (int i = 0; i < 8; i++) sums[i] += *(const V*)(data + at + i * 32);
  }
  V sum = {};
  for (const V& part : sums) sum += part;
  return sum[0] + sum[7];
}

// body(begin, end) for equal parts of [0, count), one a thread, in steps of `unit`.
template <class Body>
void on_threads(int threads, int64_t count, int64_t unit, Body body) {
  const int64_t part = (count / threads + unit - 1) / unit * unit;
  std::vector<std::thread> others;
  for (int t = 1; t < threads; t++) {
    const int64_t begin = t * part < count ? t * part : count;
    const int64_t end = begin + part < count ? begin + part : count;
    others.emplace_back([=] { body(begin, end); });
  }
  body(0, part < count ? part : count);
  for (std::thread& other : others) other.join();
}

// ---- JavaScript's side; the benchmarks are the only callers, and checks are theirs ----

template <int Count>
struct Arguments {
  napi_env env;
  napi_value values[Count] = {};
  Arguments(napi_env e, napi_callback_info info) : env(e) {
    size_t count = Count;
    napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  }
  int64_t integer(int i) const {
    int64_t value = 0;
    napi_get_value_int64(env, values[i], &value);
    return value;
  }
  Region* region(int i) const {
    void* region = nullptr;
    napi_get_value_external(env, values[i], &region);
    return (Region*)region;
  }
  const int32_t* ints(int i, size_t* length = nullptr) const {
    void* data = nullptr;
    napi_get_typedarray_info(env, values[i], nullptr, length, &data, nullptr, nullptr);
    return (const int32_t*)data;
  }
};

void unmap(Region* region) {
  if (region->mapped) munmap(region->mapped, region->length);
  region->mapped = nullptr;
}

// allocate(bytes)
napi_value allocate(napi_env env, napi_callback_info info) {
  const Arguments<1> a(env, info);
  const size_t bytes = (size_t)a.integer(0), length = bytes + huge_page;
  void* mapped = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    napi_throw_error(env, nullptr, "not enough memory for the bare loops");
    return nullptr;
  }
  char* data = (char*)(((uintptr_t)mapped + huge_page - 1) / huge_page * huge_page);
#ifdef MADV_HUGEPAGE
  madvise(data, bytes, MADV_HUGEPAGE);
#endif
  // Not zeros, and no two lines alike: nothing between here and memory may find a short cut.
  for (size_t i = 0; i < bytes / 4; i++) ((float*)data)[i] = (float)(i & 0xffff) * 1e-3f;
  napi_value result;
  napi_create_external(env, new Region{(char*)mapped, length, data}, [](napi_env, void* region, void*) {
    unmap((Region*)region);
    delete (Region*)region;
  }, nullptr, &result);
  return result;
}

// release(region): at once, not when it is collected
napi_value release(napi_env env, napi_callback_info info) {
  unmap(Arguments<1>(env, info).region(0));
  return nullptr;
}

// readRows(region, lines, ids, factors | null, factorBytes, slots | null, whole, hint, ahead, threads)
napi_value read_rows_at_random(napi_env env, napi_callback_info info) {
  const Arguments<10> a(env, info);
  size_t places = 0;
  const int32_t* ids = a.ints(2, &places);
  const Region* factors = a.region(3);
  const Rows rows{a.region(0)->data, ids, factors ? factors->data : nullptr, factors ? a.ints(5) : nullptr, a.integer(4)};
  const bool whole = a.integer(6) != 0;
  const int hint = (int)a.integer(7);
  const int64_t ahead = a.integer(8);
  ReadRows read;
  switch (a.integer(1)) {
    case 4: read = reader<4>(factors, whole, hint); break;
    case 8: read = reader<8>(factors, whole, hint); break;
    default: napi_throw_error(env, nullptr, "rows of 4 or 8 lines"); return nullptr;
  }
  on_threads((int)a.integer(9), (int64_t)places, 1, [=](int64_t begin, int64_t end) { sink = read(rows, begin, end, ahead); });
  return nullptr;
}

// readInOrder(region, from, bytes, threads)
napi_value read_all(napi_env env, napi_callback_info info) {
  const Arguments<4> a(env, info);
  const char* data = a.region(0)->data + a.integer(1);
  on_threads((int)a.integer(3), a.integer(2), 256, [=](int64_t begin, int64_t end) { sink = read_in_order(data + begin, end - begin); });
  return nullptr;
}

// copy(region, from, to, bytes, threads)
napi_value copy(napi_env env, napi_callback_info info) {
  const Arguments<5> a(env, info);
  const char* from = a.region(0)->data + a.integer(1);
  char* to = a.region(0)->data + a.integer(2);
  on_threads((int)a.integer(4), a.integer(3), 256, [=](int64_t begin, int64_t end) { memcpy(to + begin, from + begin, (size_t)(end - begin)); });
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"allocate", nullptr, allocate, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"release", nullptr, release, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"readRows", nullptr, read_rows_at_random, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"readInOrder", nullptr, read_all, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"copy", nullptr, copy, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  return exports;
}
