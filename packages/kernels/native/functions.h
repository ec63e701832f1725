// The functions that JavaScript sees, by the file that holds them.
#pragma once
#include "call.h"

namespace finetable {

// Each list ends with a null name.
extern const NamedFunction row_functions[];
extern const NamedFunction lookup_functions[];
extern const NamedFunction sparse_functions[];
extern const NamedFunction dense_functions[];
extern const NamedFunction chosen_functions[];
extern const NamedFunction slot_functions[];
extern const NamedFunction nearest_functions[];

// A rule from the numbers that native/rule.ts writes.
Rule read_rule(Call& call, int numbers);

}  // namespace finetable
