// Memory for rows: anonymous, or a file's, mapped once for all threads of the process.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace finetable {

// A stretch of address space, unmapped when the last store over it goes. Touching a mapped file's pages after another
// program made the file shorter raises SIGBUS, which ends the process: nothing short of copying the file prevents that.
class Region {
 public:
  // Zero-filled, committed page by page as it is touched; with 2 MiB pages where it is large. With `reserve` the system
  // may refuse at once what it could never provide. Null with errno set.
  static std::shared_ptr<Region> anonymous(uint64_t bytes, bool reserve);
  // All of an open file, read-only; one region for all who ask for the same version of it. Null with errno set.
  static std::shared_ptr<Region> file(int descriptor);

  ~Region();
  Region(const Region&) = delete;
  char* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  Region(void* mapped, size_t mapped_bytes, char* data, uint64_t bytes)
      : mapped_(mapped), mapped_bytes_(mapped_bytes), data_(data), bytes_(bytes) {}

  void* mapped_;
  size_t mapped_bytes_;
  char* data_;  // within the mapping, which begins on a page
  uint64_t bytes_;
};

// Files that are mapped now.
size_t mapped_files();

}  // namespace finetable
