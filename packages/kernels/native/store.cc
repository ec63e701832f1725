#include "store.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <tuple>

namespace finetable {
namespace {

constexpr uint64_t huge_page = 2 << 20;
// Below this a huge page would mostly commit memory that nobody asked for.
constexpr uint64_t huge_threshold = 4 * huge_page;

// A version of a file: device, number, size, and when it was changed.
using FileKey = std::tuple<uint64_t, uint64_t, uint64_t, int64_t, int64_t>;

struct Registry {
  std::mutex mutex;
  std::map<FileKey, std::weak_ptr<Region>> regions;
};

// Never destroyed: a store's finalizer may run while the process exits.
Registry& registry() {
  static Registry* const shared = new Registry;
  return *shared;
}

}  // namespace

std::shared_ptr<Region> Region::anonymous(uint64_t bytes, bool reserve) {
  const bool huge = bytes >= huge_threshold;
  // Room to begin on a huge page; empty stores still get an address.
  const uint64_t length = huge ? bytes + huge_page : bytes + (bytes == 0);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (reserve ? 0 : MAP_NORESERVE);
  void* mapped = mmap(nullptr, length, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* data = (char*)mapped;
  if (huge) {
    data = (char*)(((uintptr_t)mapped + huge_page - 1) & ~(uintptr_t)(huge_page - 1));
#ifdef MADV_HUGEPAGE
    madvise(data, bytes, MADV_HUGEPAGE);  // a wish; refused where the system has none
#endif
  }
  return std::shared_ptr<Region>(new Region(mapped, length, data, bytes));
}

std::shared_ptr<Region> Region::file(int descriptor) {
  struct stat info;
  if (fstat(descriptor, &info) != 0) return nullptr;
#ifdef __APPLE__
  const struct timespec changed = info.st_mtimespec;
#else
  const struct timespec changed = info.st_mtim;
#endif
  const FileKey key{(uint64_t)info.st_dev, (uint64_t)info.st_ino, (uint64_t)info.st_size, (int64_t)changed.tv_sec,
                    (int64_t)changed.tv_nsec};
  Registry& shared = registry();
  std::lock_guard<std::mutex> lock(shared.mutex);
  for (auto entry = shared.regions.begin(); entry != shared.regions.end();) {
    entry = entry->second.expired() ? shared.regions.erase(entry) : std::next(entry);
  }
  std::weak_ptr<Region>& known = shared.regions[key];
  std::shared_ptr<Region> region = known.lock();
  if (region) return region;
  const size_t length = (size_t)info.st_size + (info.st_size == 0);
  void* mapped = mmap(nullptr, length, PROT_READ, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED) return nullptr;
  region.reset(new Region(mapped, length, (char*)mapped, (uint64_t)info.st_size));
  known = region;
  return region;
}

size_t mapped_files() {
  Registry& shared = registry();
  std::lock_guard<std::mutex> lock(shared.mutex);
  size_t count = 0;
  for (const auto& entry : shared.regions) count += !entry.second.expired();
  return count;
}

Region::~Region() { munmap(mapped_, mapped_bytes_); }

}  // namespace finetable
