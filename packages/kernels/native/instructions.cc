// Chooses an instruction set at run time, so that one binary serves every processor of an architecture.
#include <cstring>

#include "ops.h"

namespace finetable {

const Ops* find_ops(const char* name) {
  const Ops* usable[3];
  int count = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  // These also ask whether the operating system saves the wide registers. Every processor with AVX2 has F16C.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    usable[count++] = &avx512_ops;
  }
  if (avx2) usable[count++] = &avx2_ops;
#endif
  usable[count++] = &baseline_ops;
  if (!name) return usable[0];
  for (int i = 0; i < count; i++) {
    if (!strcmp(usable[i]->name, name)) return usable[i];
  }
  return nullptr;
}

}  // namespace finetable
