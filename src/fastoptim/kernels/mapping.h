/* Files in memory: what POSIX has and Windows has not. */

#ifndef FASTOPTIM_MAPPING_H
#define FASTOPTIM_MAPPING_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
  #include <errno.h>
  static inline void *fo_map(int file, size_t n) { (void) file; (void) n; errno = ENOSYS; return 0; }
  static inline void fo_unmap(void *address, size_t n) { (void) address; (void) n; }
  static inline int fo_flush(void *address, size_t n) { (void) address; (void) n; return 0; }
  static inline void fo_will_need(size_t address, size_t n) { (void) address; (void) n; }
#else
  #include <sys/mman.h>
  #include <unistd.h>
  /* A whole file, shared with everybody who maps it; NULL and errno if that fails. */
  static inline void *fo_map(int file, size_t n) {
      void *address = mmap(0, n, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      return address == MAP_FAILED ? 0 : address;
  }
  static inline void fo_unmap(void *address, size_t n) { munmap(address, n); }
  static inline int fo_flush(void *address, size_t n) { return msync(address, n, MS_SYNC); }
  /* Lets the system read a part of a file that is not in memory yet; whole pages, hence the start. */
  static inline void fo_will_need(size_t address, size_t n) {
      size_t start = address & ~((size_t) sysconf(_SC_PAGESIZE) - 1);
      madvise((void *) start, n + (address - start), MADV_WILLNEED);
  }
#endif

/* Writes a word after all that the program has written before, and before all that it writes next. */
#if defined(__GNUC__) || defined(__clang__)
  static inline void fo_store(int64_t *word, int64_t value) {
      __atomic_thread_fence(__ATOMIC_SEQ_CST);
      __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
      __atomic_thread_fence(__ATOMIC_SEQ_CST);
  }
#else
  static inline void fo_store(int64_t *word, int64_t value) { *(volatile int64_t *) word = value; }
#endif

#endif
