#include "pool.h"

#include <dlfcn.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace finetable {
namespace {

struct Job {
  RangeBody body;
  void* context;
  int64_t count, grain;
  std::atomic<int64_t> next{0};

  void work() {
    for (;;) {
      const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= count) return;
      body(context, begin, begin + grain < count ? begin + grain : count);
    }
  }
};

class Pool {
 public:
  void run(int threads, Job& job) {
    // One job at a time. Waiting for another caller's job would idle this core.
    std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn.owns_lock()) return job.work();
    const int64_t ranges = (job.count + job.grain - 1) / job.grain;
    const int helpers = (int)(ranges < threads ? ranges : threads) - 1;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      grow(helpers);
      job_ = &job;
      wanted_ = helpers;
    }
    for (int i = 0; i < helpers; i++) wake_.notify_one();
    job.work();
    // Nobody new may join; those who did are waited for, since the job lies on this stack.
    std::unique_lock<std::mutex> lock(mutex_);
    job_ = nullptr;
    wanted_ = 0;
    done_.wait(lock, [this] { return active_ == 0; });
  }

 private:
  void grow(int helpers) {
    while (size_ < helpers) {
      try {
        std::thread([this] { serve(); }).detach();
      } catch (const std::system_error&) {
        // No more threads to be had: the work is done by those there are, with the same results.
        return;
      }
      size_++;
    }
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return wanted_ > 0; });
      wanted_--;
      active_++;
      Job* job = job_;
      lock.unlock();
      job->work();
      lock.lock();
      if (--active_ == 0) done_.notify_one();
    }
  }

  std::mutex turn_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  int wanted_ = 0;  // helpers that may still join
  int active_ = 0;  // helpers at work
  int size_ = 0;
};

// Never destroyed, and its threads never joined: they sleep until the process ends. So the code they run must stay, which
// Node would otherwise unload with the worker thread that loaded it.
Pool& pool() {
  static Pool* const shared = [] {
    Dl_info info;
    if (dladdr((void*)&run_ranges, &info)) dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE);
    return new Pool;
  }();
  return *shared;
}

}  // namespace

void run_ranges(int threads, int64_t count, int64_t grain, RangeBody body, void* context) {
  if (count <= 0) return;
  if (threads < 2 || count < 2 * grain) return body(context, 0, count);
  Job job;
  job.body = body;
  job.context = context;
  job.count = count;
  job.grain = grain;
  pool().run(threads, job);
}

}  // namespace finetable
