// The collectives of MPI that training needs, off the JavaScript thread. One thread of ours makes every call of MPI, in the order in which JavaScript
// asked, so that no thread support is asked of the library. Sums are made here, in the order of the ranks: MPI's own reductions may associate
// otherwise from run to run, and results have to be the same bytes.
#define OMPI_SKIP_MPICXX 1  // bindings of C++ that nobody needs
#include <mpi.h>
#include <node_api.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

// Counts of MPI are ints: more goes in rounds.
constexpr int64_t most_bytes = 1 << 30;
// Sums up to this size are made of everybody's numbers at once; larger ones by parts, one for each rank.
constexpr int64_t small_sum = 4096;

struct Failure {
  std::string message;
};

void must(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw Failure{std::string(what) + ": " + std::string(text, (size_t)length)};
}

// Without taking a core from the kernels: MPI's own waiting never sleeps.
void wait_for(MPI_Request& request, const char* what) {
  for (int tries = 0;; tries++) {
    int done = 0;
    must(MPI_Test(&request, &done, MPI_STATUS_IGNORE), what);
    if (done) return;
    if (tries > 200) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

struct Ranks {
  int rank = 0, size = 1;
};

// What goes to each rank, or comes from it, one after the other.
struct Parts {
  std::vector<int64_t> bytes;
  std::vector<int64_t> starts() const {
    std::vector<int64_t> out(bytes.size() + 1);
    for (size_t i = 0; i < bytes.size(); i++) out[i + 1] = out[i] + bytes[i];
    return out;
  }
};

struct Buffer {
  uint8_t* data = nullptr;
  explicit Buffer(int64_t bytes) : data((uint8_t*)malloc((size_t)(bytes > 0 ? bytes : 1))) {
    if (!data) throw Failure{"out of memory"};
  }
  ~Buffer() { free(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  uint8_t* release() {
    uint8_t* const out = data;
    data = nullptr;
    return out;
  }
};

void all_to_all(const Ranks& ranks, const uint8_t* send, const Parts& to, uint8_t* receive, const Parts& from) {
  const std::vector<int64_t> send_starts = to.starts(), receive_starts = from.starts();
  const int64_t step = most_bytes / ranks.size;
  int64_t most = 0;
  for (int64_t bytes : to.bytes) most = bytes > most ? bytes : most;
  int64_t longest = 0;
  MPI_Request request;
  must(MPI_Iallreduce(&most, &longest, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD, &request), "allToAll");
  wait_for(request, "allToAll");
  const size_t n = (size_t)ranks.size;
  for (int64_t at = 0; at < longest; at += step) {
    std::vector<int> send_counts(n), send_places(n), receive_counts(n), receive_places(n);
    int64_t sending = 0, receiving = 0;
    const auto of_round = [&](int64_t bytes) { return bytes <= at ? 0 : bytes - at < step ? bytes - at : step; };
    for (size_t i = 0; i < n; i++) {
      send_counts[i] = (int)of_round(to.bytes[i]);
      receive_counts[i] = (int)of_round(from.bytes[i]);
      send_places[i] = (int)sending;
      receive_places[i] = (int)receiving;
      sending += send_counts[i];
      receiving += receive_counts[i];
    }
    // Where one round is not all, its parts do not lie one after the other in what is sent and received.
    const bool whole = longest <= step;
    const uint8_t* source = send;
    uint8_t* target = receive;
    std::unique_ptr<Buffer> outgoing, incoming;
    if (!whole) {
      outgoing.reset(new Buffer(sending));
      incoming.reset(new Buffer(receiving));
      for (size_t i = 0; i < n; i++) memcpy(outgoing->data + send_places[i], send + send_starts[i] + at, (size_t)send_counts[i]);
      source = outgoing->data;
      target = incoming->data;
    }
    must(MPI_Ialltoallv(source, send_counts.data(), send_places.data(), MPI_BYTE, target, receive_counts.data(),
                        receive_places.data(), MPI_BYTE, MPI_COMM_WORLD, &request),
         "allToAll");
    wait_for(request, "allToAll");
    if (!whole) {
      for (size_t i = 0; i < n; i++) memcpy(receive + receive_starts[i] + at, incoming->data + receive_places[i], (size_t)receive_counts[i]);
    }
  }
}

// How much everybody will send here.
Parts announced(const Ranks& ranks, const Parts& to) {
  Parts from;
  from.bytes.resize((size_t)ranks.size);
  MPI_Request request;
  must(MPI_Ialltoall(to.bytes.data(), 1, MPI_INT64_T, from.bytes.data(), 1, MPI_INT64_T, MPI_COMM_WORLD, &request), "allToAll");
  wait_for(request, "allToAll");
  return from;
}

Parts same_for_all(const Ranks& ranks, int64_t bytes) {
  return Parts{std::vector<int64_t>((size_t)ranks.size, bytes)};
}

// Everybody's bytes to everybody, by ranks.
void all_gather(const Ranks& ranks, const uint8_t* mine, int64_t bytes, uint8_t* out, const Parts& from) {
  const std::vector<int64_t> starts = from.starts();
  const size_t n = (size_t)ranks.size;
  if (starts[n] <= most_bytes) {
    std::vector<int> counts(n), places(n);
    for (size_t i = 0; i < n; i++) counts[i] = (int)from.bytes[i], places[i] = (int)starts[i];
    MPI_Request request;
    must(MPI_Iallgatherv(mine, (int)bytes, MPI_BYTE, out, counts.data(), places.data(), MPI_BYTE, MPI_COMM_WORLD, &request), "allGather");
    wait_for(request, "allGather");
    return;
  }
  for (int root = 0; root < ranks.size; root++) {
    uint8_t* const part = out + starts[(size_t)root];
    if (root == ranks.rank) memcpy(part, mine, (size_t)bytes);
    for (int64_t at = 0; at < from.bytes[(size_t)root]; at += most_bytes) {
      const int64_t left = from.bytes[(size_t)root] - at;
      MPI_Request request;
      must(MPI_Ibcast(part + at, (int)(left < most_bytes ? left : most_bytes), MPI_BYTE, root, MPI_COMM_WORLD, &request), "allGather");
      wait_for(request, "allGather");
    }
  }
}

// values = Σ over the ranks, added in f64 in their order.
template <class T>
void all_reduce(const Ranks& ranks, T* values, int64_t count) {
  const int64_t n = ranks.size;
  const auto sum = [&](const T* terms, int64_t stride, int64_t length, T* out) {
    for (int64_t i = 0; i < length; i++) {
      double total = 0;
      for (int64_t r = 0; r < n; r++) total += (double)terms[r * stride + i];
      out[i] = (T)total;
    }
  };
  if (count <= small_sum) {
    Buffer all(n * count * (int64_t)sizeof(T));
    all_gather(ranks, (const uint8_t*)values, count * (int64_t)sizeof(T), all.data, same_for_all(ranks, count * (int64_t)sizeof(T)));
    sum((const T*)all.data, count, count, values);
    return;
  }
  Parts to;
  to.bytes.resize((size_t)n);
  for (int64_t r = 0; r < n; r++) to.bytes[(size_t)r] = (count * (r + 1) / n - count * r / n) * (int64_t)sizeof(T);
  const int64_t mine = to.bytes[(size_t)ranks.rank];
  Buffer terms(mine * n), result(mine);
  all_to_all(ranks, (const uint8_t*)values, to, terms.data, same_for_all(ranks, mine));
  const int64_t own = mine / (int64_t)sizeof(T);
  sum((const T*)terms.data, own, own, (T*)result.data);
  all_gather(ranks, result.data, mine, (uint8_t*)values, to);
}

struct Job {
  std::function<void(Job&)> run;
  napi_deferred deferred = nullptr;
  napi_ref arrays = nullptr;
  std::string failure;
  // What came, where something comes.
  bool gives = false;
  Parts parts;
  uint8_t* data = nullptr;
};

class Engine {
 public:
  Ranks ranks;
  std::string failure;

  // Blocks until MPI is there, which other ranks may have to be.
  void open() {
    thread_ = std::thread([this] { work(); });
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

  void add(std::unique_ptr<Job> job) {
    std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(std::move(job));
    changed_.notify_all();
  }

  napi_threadsafe_function settled = nullptr;

 private:
  void work() {
    start();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      open_ = true;
      changed_.notify_all();
    }
    for (;;) {
      std::unique_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return !jobs_.empty(); });
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      try {
        job->run(*job);
      } catch (const Failure& found) {
        job->failure = found.message;
      }
      napi_call_threadsafe_function(settled, job.release(), napi_tsfn_blocking);
    }
  }

  void start() {
    int given = 0;
    const int status = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);
    if (status != MPI_SUCCESS) {
      failure = "MPI_Init_thread failed";
      return;
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &ranks.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks.size);
  }

  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  std::deque<std::unique_ptr<Job>> jobs_;
};

// MPI begins once in a process and cannot begin again.
Engine* engine = nullptr;

napi_value text_of(napi_env env, const std::string& text) {
  napi_value out = nullptr;
  napi_create_string_utf8(env, text.data(), text.size(), &out);
  return out;
}

napi_value fail(napi_env env, const std::string& message) {
  napi_throw_error(env, "EMPI", message.c_str());
  return nullptr;
}

// On the JavaScript thread, after a job.
void settle(napi_env env, napi_value, void*, void* data) {
  std::unique_ptr<Job> job((Job*)data);
  if (!env) {
    free(job->data);
    return;
  }
  napi_delete_reference(env, job->arrays);
  if (!job->failure.empty()) {
    free(job->data);
    napi_value error;
    if (napi_create_error(env, text_of(env, "EMPI"), text_of(env, job->failure), &error) == napi_ok)
      napi_reject_deferred(env, job->deferred, error);
    return;
  }
  napi_value value;
  napi_get_undefined(env, &value);
  if (job->gives) {
    // [everybody's bytes, how many each]
    napi_create_array(env, &value);
    const std::vector<int64_t> starts = job->parts.starts();
    const auto finalize = [](napi_env, void* memory, void*) { free(memory); };
    napi_value buffer;
    napi_create_external_arraybuffer(env, job->data, (size_t)starts.back(), finalize, nullptr, &buffer);
    napi_set_element(env, value, 0, buffer);
    for (size_t i = 0; i < job->parts.bytes.size(); i++) {
      napi_value bytes;
      napi_create_double(env, (double)job->parts.bytes[i], &bytes);
      napi_set_element(env, value, (uint32_t)(i + 1), bytes);
    }
  }
  napi_resolve_deferred(env, job->deferred, value);
}

struct Arguments {
  napi_value values[2] = {};
  Arguments(napi_env env, napi_callback_info info) {
    size_t count = 2;
    napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  }
};

// A promise of the job's end; `kept` stays alive until then.
napi_value begin(napi_env env, std::unique_ptr<Job> job, napi_value kept) {
  napi_value promise, arrays;
  napi_create_array(env, &arrays);
  napi_set_element(env, arrays, 0, kept);
  napi_create_reference(env, arrays, 1, &job->arrays);
  napi_create_promise(env, &job->deferred, &promise);
  engine->add(std::move(job));
  return promise;
}

// () -> [rank, size]
napi_value open_mpi(napi_env env, napi_callback_info) {
  if (!engine) {
    engine = new Engine;
    napi_create_threadsafe_function(env, nullptr, nullptr, text_of(env, "finetable mpi"), 0, 1, nullptr, nullptr, nullptr, settle,
                                    &engine->settled);
    // What waits keeps the process, not that something might.
    napi_unref_threadsafe_function(env, engine->settled);
    engine->open();
  }
  if (!engine->failure.empty()) return fail(env, engine->failure);
  napi_value out, rank, size;
  napi_create_array(env, &out);
  napi_create_int32(env, engine->ranks.rank, &rank);
  napi_create_int32(env, engine->ranks.size, &size);
  napi_set_element(env, out, 0, rank);
  napi_set_element(env, out, 1, size);
  return out;
}

// (true: the process lives while something is waited for)
napi_value hold(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  bool held = false;
  napi_get_value_bool(env, args.values[0], &held);
  if (held) napi_ref_threadsafe_function(env, engine->settled);
  else napi_unref_threadsafe_function(env, engine->settled);
  return nullptr;
}

napi_value barrier(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  std::unique_ptr<Job> job(new Job);
  job->run = [](Job&) {
    MPI_Request request;
    must(MPI_Ibarrier(MPI_COMM_WORLD, &request), "barrier");
    wait_for(request, "barrier");
  };
  return begin(env, std::move(job), args.values[0]);
}

// (Float32Array or Float64Array)
napi_value all_reduce_call(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, args.values[0], &type, &length, &data, nullptr, nullptr) != napi_ok) return fail(env, "allReduce");
  std::unique_ptr<Job> job(new Job);
  job->run = [=](Job&) {
    if (type == napi_float32_array) all_reduce(engine->ranks, (float*)data, (int64_t)length);
    else all_reduce(engine->ranks, (double*)data, (int64_t)length);
  };
  return begin(env, std::move(job), args.values[0]);
}

// (Uint8Array of what goes to all, by ranks; Float64Array of how many bytes go to each)
napi_value all_to_all_call(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  size_t length, ranks;
  void *data, *counts;
  if (napi_get_typedarray_info(env, args.values[0], nullptr, &length, &data, nullptr, nullptr) != napi_ok ||
      napi_get_typedarray_info(env, args.values[1], nullptr, &ranks, &counts, nullptr, nullptr) != napi_ok)
    return fail(env, "allToAll");
  Parts to;
  for (size_t i = 0; i < ranks; i++) to.bytes.push_back((int64_t)((double*)counts)[i]);
  std::unique_ptr<Job> job(new Job);
  job->gives = true;
  job->run = [=](Job& own) {
    own.parts = announced(engine->ranks, to);
    Buffer received(own.parts.starts().back());
    all_to_all(engine->ranks, (const uint8_t*)data, to, received.data, own.parts);
    own.data = received.release();
  };
  return begin(env, std::move(job), args.values[0]);
}

// (Uint8Array)
napi_value all_gather_call(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, args.values[0], nullptr, &length, &data, nullptr, nullptr) != napi_ok) return fail(env, "allGather");
  std::unique_ptr<Job> job(new Job);
  job->gives = true;
  job->run = [=](Job& own) {
    own.parts = announced(engine->ranks, same_for_all(engine->ranks, (int64_t)length));
    Buffer received(own.parts.starts().back());
    all_gather(engine->ranks, (const uint8_t*)data, (int64_t)length, received.data, own.parts);
    own.data = received.release();
  };
  return begin(env, std::move(job), args.values[0]);
}

napi_value finalize_mpi(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  std::unique_ptr<Job> job(new Job);
  job->run = [](Job&) { must(MPI_Finalize(), "close"); };
  return begin(env, std::move(job), args.values[0]);
}

// (exit status): ends all ranks. Called while our thread may wait in MPI, for which its standard has no better way.
napi_value abort_mpi(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  int32_t status = 1;
  napi_get_value_int32(env, args.values[0], &status);
  MPI_Abort(MPI_COMM_WORLD, status);
  return nullptr;
}

// May be asked for before `open`.
napi_value version(napi_env env, napi_callback_info) {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  return text_of(env, std::string(text, (size_t)length));
}

napi_value init(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"open", nullptr, open_mpi, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"hold", nullptr, hold, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"barrier", nullptr, barrier, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"allReduce", nullptr, all_reduce_call, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"allToAll", nullptr, all_to_all_call, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"allGather", nullptr, all_gather_call, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"close", nullptr, finalize_mpi, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"abort", nullptr, abort_mpi, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"version", nullptr, version, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
  return exports;
}

}  // namespace

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
