// Work off the JavaScript thread, and what it must keep alive meanwhile.
#pragma once
#include <vector>

#include "call.h"

namespace finetable {

// Derived classes hold their arguments as plain pointers into what is pinned here. Made, started and deleted on the
// JavaScript thread; only `run` is elsewhere.
class Work {
 public:
  virtual ~Work() {
    for (napi_ref reference : references_) napi_delete_reference(env_, reference);
    if (work_) napi_delete_async_work(env_, work_);
  }
  Work(const Work&) = delete;

  // Memory of an open store (null for null), which stays mapped though the store be closed.
  char* memory(Call& call, napi_value handle) {
    napi_valuetype type = napi_undefined;
    call.check(napi_typeof(env_, handle, &type));
    if (type != napi_external) return nullptr;
    char* data = call.memory_of(handle);
    void* rows = nullptr;
    call.check(napi_get_value_external(env_, handle, &rows));
    if (data) regions_.push_back(((Rows*)rows)->region);
    return data;
  }
  const float* floats(Call& call, int i, int64_t* length = nullptr) { return pin(call, i), call.floats(i, length); }
  float* floats_out(Call& call, int i) { return pin(call, i), call.floats_out(i); }
  const int32_t* ints(Call& call, int i, int64_t* length = nullptr) { return pin(call, i), call.ints(i, length); }

  // Takes `work`; a promise of its end.
  static napi_value start(Call& call, Work* work) {
    napi_value promise = nullptr, name = nullptr;
    if (call.wrong() ||
        napi_create_string_utf8(work->env_, "finetable", NAPI_AUTO_LENGTH, &name) != napi_ok ||
        napi_create_promise(work->env_, &work->deferred_, &promise) != napi_ok ||
        napi_create_async_work(work->env_, nullptr, name, execute, complete, work, &work->work_) != napi_ok ||
        napi_queue_async_work(work->env_, work->work_) != napi_ok) {
      delete work;
      call.check(napi_generic_failure);
      return nullptr;
    }
    return promise;
  }

 protected:
  explicit Work(Call& call) : env_(call.env()) {}
  // May throw std::bad_alloc.
  virtual void run() = 0;

 private:
  void pin(Call& call, int i) {
    napi_valuetype type = napi_undefined;
    call.check(napi_typeof(env_, call.value(i), &type));
    if (type != napi_object) return;
    napi_ref reference = nullptr;
    call.check(napi_create_reference(env_, call.value(i), 1, &reference));
    references_.push_back(reference);
  }
  static void execute(napi_env, void* data) {
    Work* work = (Work*)data;
    try {
      work->run();
    } catch (const std::bad_alloc&) {
      work->out_of_memory_ = true;
    }
  }
  // Where the thread is ending, no promise can be settled, and these calls do nothing.
  static void complete(napi_env env, napi_status, void* data) {
    Work* work = (Work*)data;
    napi_value result = nullptr, code = nullptr, message = nullptr;
    if (work->out_of_memory_) {
      napi_create_string_utf8(env, "ENOMEM", NAPI_AUTO_LENGTH, &code);
      napi_create_string_utf8(env, "out of memory", NAPI_AUTO_LENGTH, &message);
      if (napi_create_error(env, code, message, &result) == napi_ok) napi_reject_deferred(env, work->deferred_, result);
    } else if (napi_get_undefined(env, &result) == napi_ok) {
      napi_resolve_deferred(env, work->deferred_, result);
    }
    delete work;
  }

  napi_env env_;
  napi_deferred deferred_ = nullptr;
  napi_async_work work_ = nullptr;
  std::vector<napi_ref> references_;
  std::vector<std::shared_ptr<Region>> regions_;
  bool out_of_memory_ = false;
};

}  // namespace finetable
