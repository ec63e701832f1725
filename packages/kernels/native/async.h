// Work off the JavaScript thread.
#pragma once
#include <memory>
#include <vector>

#include "call.h"

namespace finetable {

// Stores whose memory stays in place as long as this does, whoever closes them.
class HeldStores {
 public:
  // Null for null.
  const Rows* hold(const Rows* rows) {
    if (rows) {
      regions_.push_back(rows->elements);
      if (rows->scales) regions_.push_back(rows->scales);
    }
    return rows;
  }

 private:
  std::vector<std::shared_ptr<Region>> regions_;
};

// A task on its way. The typed arrays are kept alive by a reference to a list of them.
template <class Task>
struct Pending {
  std::unique_ptr<Task> task;
  bool out_of_memory = false;
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  napi_ref arrays = nullptr;

  void run() {
    try {
      task->run();
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
  }
  // While a worker is being ended nothing of JavaScript can be called; nobody waits for the promise then either.
  void settle(napi_env env) {
    napi_value value, code, message;
    if (out_of_memory) {
      if (napi_create_string_utf8(env, "ENOMEM", NAPI_AUTO_LENGTH, &code) == napi_ok &&
          napi_create_string_utf8(env, "out of memory", NAPI_AUTO_LENGTH, &message) == napi_ok &&
          napi_create_error(env, code, message, &value) == napi_ok) {
        napi_reject_deferred(env, deferred, value);
      }
    } else if (napi_get_undefined(env, &value) == napi_ok) {
      napi_resolve_deferred(env, deferred, value);
    }
  }
};

// A promise of the end of `task->run()`, which is called on a thread of libuv's. The task was made from `call`, whose
// arguments [first, last] are or may be typed arrays that it reads and writes.
template <class Task>
napi_value run_async(Call& call, const char* label, int first, int last, std::unique_ptr<Task> task) {
  napi_env env = call.env();
  std::unique_ptr<Pending<Task>> pending(new Pending<Task>);
  pending->task = std::move(task);
  napi_value arrays, name, promise;
  call.check(napi_create_array(env, &arrays));
  if (call.wrong()) return nullptr;
  for (int i = first; i <= last; i++) call.check(napi_set_element(env, arrays, (uint32_t)i, call.value(i)));
  call.check(napi_create_string_utf8(env, label, NAPI_AUTO_LENGTH, &name));
  call.check(napi_create_reference(env, arrays, 1, &pending->arrays));
  if (call.wrong()) return nullptr;
  const auto execute = [](napi_env, void* data) { ((Pending<Task>*)data)->run(); };
  const auto finish = [](napi_env env, napi_status, void* data) {
    std::unique_ptr<Pending<Task>> pending((Pending<Task>*)data);
    pending->settle(env);
    napi_delete_reference(env, pending->arrays);
    napi_delete_async_work(env, pending->work);
  };
  call.check(napi_create_async_work(env, nullptr, name, execute, finish, pending.get(), &pending->work));
  if (!call.wrong()) call.check(napi_create_promise(env, &pending->deferred, &promise));
  if (!call.wrong()) call.check(napi_queue_async_work(env, pending->work));
  if (call.wrong()) {
    if (pending->work) napi_delete_async_work(env, pending->work);
    napi_delete_reference(env, pending->arrays);
    return nullptr;
  }
  pending.release();
  return promise;
}

}  // namespace finetable
