// The Node-API module. It is loaded once per JavaScript thread and keeps no JavaScript value between calls; what threads
// share (the pool, mapped files) belongs to the process.
#include "functions.h"

namespace finetable {
namespace {

// (instruction set or null, threads): an external for the other calls; null where this processor lacks the set.
napi_value create_context(Call& call) {
  napi_valuetype type = napi_null;
  call.check(napi_typeof(call.env(), call.value(0), &type));
  char name[16] = "";
  if (type == napi_string) call.check(napi_get_value_string_utf8(call.env(), call.value(0), name, sizeof name, nullptr));
  const Ops* ops = find_ops(type == napi_string ? name : nullptr);
  const int threads = (int)call.integer(1);
  if (call.wrong()) return nullptr;
  if (ops) return call.owned(new Context{ops, threads});
  napi_value none = nullptr;
  call.check(napi_get_null(call.env(), &none));
  return none;
}

napi_value instruction_set(Call& call) {
  napi_value name = nullptr;
  call.check(napi_create_string_utf8(call.env(), call.context(0).ops->name, NAPI_AUTO_LENGTH, &name));
  return name;
}

const NamedFunction context_functions[] = {
    {"createContext", entry<create_context>},
    {"instructionSet", entry<instruction_set>},
    {nullptr, nullptr},
};

}  // namespace
}  // namespace finetable

NAPI_MODULE_INIT() {
  using namespace finetable;
  const NamedFunction* const lists[] = {context_functions, row_functions,  lookup_functions, chosen_functions,
                                        sparse_functions,  dense_functions, slot_functions,   nearest_functions};
  for (const NamedFunction* list : lists) {
    for (const NamedFunction* f = list; f->name; f++) {
      napi_value function;
      if (napi_create_function(env, f->name, NAPI_AUTO_LENGTH, f->callback, nullptr, &function) != napi_ok ||
          napi_set_named_property(env, exports, f->name, function) != napi_ok) {
        return nullptr;
      }
    }
  }
  return exports;
}
