// Mutex, condition and threads over the functions of pthread, which QuRT and musl both have. How large QuRT's objects are is known to its SDK
// alone: each has room to spare here and is made by its init function, never by an initializer of somebody else's header.
#pragma once

#include <pthread.h>

namespace hvl {

inline constexpr size_t kPthreadRoom = 256;

class Mutex {
 public:
  Mutex() { pthread_mutex_init(get(), nullptr); }
  ~Mutex() { pthread_mutex_destroy(get()); }
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  void lock() { pthread_mutex_lock(get()); }
  void unlock() { pthread_mutex_unlock(get()); }
  pthread_mutex_t* get() { return reinterpret_cast<pthread_mutex_t*>(room_); }

 private:
  alignas(8) char room_[kPthreadRoom];
};

class Lock {
 public:
  explicit Lock(Mutex& mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Lock() { mutex_.unlock(); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  Mutex& mutex_;
};

class Condition {
 public:
  Condition() { pthread_cond_init(get(), nullptr); }
  ~Condition() { pthread_cond_destroy(get()); }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;
  void wait(Mutex& mutex) { pthread_cond_wait(get(), mutex.get()); }
  void wake_all() { pthread_cond_broadcast(get()); }

 private:
  pthread_cond_t* get() { return reinterpret_cast<pthread_cond_t*>(room_); }
  alignas(8) char room_[kPthreadRoom];
};

// Starts body(context) in a thread with `stack` bytes of its own.
inline bool start_thread(pthread_t& thread, size_t stack, void* (*body)(void*), void* context) {
  alignas(8) char room[kPthreadRoom];
  auto* attributes = reinterpret_cast<pthread_attr_t*>(room);
  if (pthread_attr_init(attributes) != 0) return false;
  pthread_attr_setstacksize(attributes, stack);
  const int error = pthread_create(&thread, attributes, body, context);
  pthread_attr_destroy(attributes);
  return error == 0;
}

}  // namespace hvl
