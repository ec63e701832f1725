// One call from JavaScript: its arguments, already checked by check/ in TypeScript, and its errors.
#pragma once
#include <node_api.h>

#include <cstdint>
#include <new>

#include "ops.h"
#include "store.h"

namespace finetable {

// What a kernels object of TypeScript runs with.
struct Context {
  const Ops* ops;
  int threads;
};

// A row store: where its rows lie, and what keeps them there. Without a region after it was closed.
struct Rows {
  RowsView view;
  std::shared_ptr<Region> elements, scales;
};

class Call {
 public:
  Call(napi_env env, napi_callback_info info) : env_(env) {
    size_t count = most;
    if (napi_get_cb_info(env, info, &count, values_, nullptr, nullptr) != napi_ok) wrong_ = true;
  }

  // Set where an argument was not what the function expects. That is a mistake in our TypeScript.
  bool wrong() const { return wrong_; }
  napi_env env() const { return env_; }

  int64_t integer(int i) { return (int64_t)number(i); }
  double number(int i) {
    double value = 0;
    check(napi_get_value_double(env_, values_[i], &value));
    return value;
  }
  bool boolean(int i) {
    bool value = false;
    check(napi_get_value_bool(env_, values_[i], &value));
    return value;
  }

  // Null or undefined gives null. `length` is set where asked for.
  const float* floats(int i, int64_t* length = nullptr) { return (const float*)array(i, napi_float32_array, length); }
  float* floats_out(int i, int64_t* length = nullptr) { return (float*)array(i, napi_float32_array, length); }
  const int32_t* ints(int i, int64_t* length = nullptr) { return (const int32_t*)array(i, napi_int32_array, length); }
  int32_t* ints_out(int i, int64_t* length = nullptr) { return (int32_t*)array(i, napi_int32_array, length); }
  int32_t* ints_of(napi_value value, int64_t* length) { return (int32_t*)array_of(value, napi_int32_array, length); }
  const float* floats_of(napi_value value) { return (const float*)array_of(value, napi_float32_array, nullptr); }
  const double* doubles(int i) { return (const double*)array(i, napi_float64_array, nullptr); }
  double* doubles_out(int i) { return (double*)array(i, napi_float64_array, nullptr); }
  uint8_t* bytes(int i, int64_t* length) { return (uint8_t*)array(i, napi_uint8_array, length); }

  // A store, open or closed; null for null or undefined.
  Rows* rows(int i) { return absent(i) ? nullptr : (Rows*)external(values_[i]); }
  // An open store, which lives as long as the call; null for null or undefined.
  const Rows* open_rows(int i) { return absent(i) ? nullptr : open_rows_of(values_[i]); }
  const Rows* open_rows_of(napi_value handle) {
    const Rows* rows = (const Rows*)external(handle);
    if (rows && rows->elements) return rows;
    wrong_ = true;
    return nullptr;
  }
  // The elements of an open store that is written or whose rows lie one after the other; null for null or undefined.
  char* memory(int i) {
    const Rows* rows = open_rows(i);
    return rows ? const_cast<char*>(rows->view.data) : nullptr;
  }
  const Context& context(int i) {
    static const Context none = {&baseline_ops, 1};
    const Context* context = (const Context*)external(values_[i]);
    return context ? *context : none;
  }
  napi_value value(int i) const { return values_[i]; }
  void check(napi_status status) {
    if (status != napi_ok) wrong_ = true;
  }

  napi_value truth(bool value) {
    napi_value out = nullptr;
    check(napi_get_boolean(env_, value, &out));
    return out;
  }
  napi_value result(double value) {
    napi_value out = nullptr;
    check(napi_create_double(env_, value, &out));
    return out;
  }
  template <class T>
  napi_value owned(T* object) {
    napi_value out = nullptr;
    const auto finalize = [](napi_env, void* data, void*) { delete (T*)data; };
    if (napi_create_external(env_, object, finalize, nullptr, &out) != napi_ok) {
      delete object;
      wrong_ = true;
    }
    return out;
  }
  // Throws a JavaScript error with a `code`, such as an errno's name.
  napi_value fail(const char* code, const char* message) {
    napi_throw_error(env_, code, message);
    return nullptr;
  }

 private:
  static constexpr size_t most = 18;

  bool absent(int i) { return is_absent(values_[i]); }
  bool is_absent(napi_value value) {
    napi_valuetype type = napi_undefined;
    check(napi_typeof(env_, value, &type));
    return type == napi_undefined || type == napi_null;
  }
  void* external(napi_value value) {
    void* data = nullptr;
    check(napi_get_value_external(env_, value, &data));
    return data;
  }
  void* array(int i, napi_typedarray_type expected, int64_t* length) { return array_of(values_[i], expected, length); }
  void* array_of(napi_value value, napi_typedarray_type expected, int64_t* length) {
    if (length) *length = 0;
    if (is_absent(value)) return nullptr;
    napi_typedarray_type type;
    size_t count = 0;
    void* data = nullptr;
    check(napi_get_typedarray_info(env_, value, &type, &count, &data, nullptr, nullptr));
    if (wrong_ || type != expected) {
      wrong_ = true;
      return nullptr;
    }
    if (length) *length = (int64_t)count;
    // The memory of an empty array may be null, which would read as absent.
    static double nothing[1];
    return data ? data : nothing;
  }

  napi_env env_;
  napi_value values_[most];
  bool wrong_ = false;
};

typedef napi_value (*Function)(Call&);

// A function as JavaScript calls it. No C++ exception may leave it.
template <Function function>
napi_value entry(napi_env env, napi_callback_info info) {
  Call call(env, info);
  napi_value result = nullptr;
  try {
    result = function(call);
  } catch (const std::bad_alloc&) {
    return call.fail("ENOMEM", "out of memory");
  }
  if (!call.wrong()) return result;
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (!pending) napi_throw_type_error(env, nullptr, "finetable: wrong arguments in a native call");
  return nullptr;
}

struct NamedFunction {
  const char* name;
  napi_callback callback;
};

}  // namespace finetable
