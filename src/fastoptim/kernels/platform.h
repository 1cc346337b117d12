/* What compilers, processors and OpenMP runtimes spell differently. */

#ifndef FASTOPTIM_PLATFORM_H
#define FASTOPTIM_PLATFORM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---------------------------------------------------------------- OpenMP */

#ifdef _OPENMP
  #include <omp.h>
  #define FO_OPENMP _OPENMP
  /* Only GNU's runtime hangs after fork; omp.h declares the call since GCC 9, and a library
     can be older than the header, hence weak. */
  #if defined(__GNUC__) && !defined(__clang__) && defined(__ELF__)
    extern int fo_omp_pause(int) __asm__("omp_pause_resource_all") __attribute__((weak));
    static inline int fo_can_pause(void) { return fo_omp_pause != 0; }
    static inline void fo_pause(void) { if (fo_omp_pause) fo_omp_pause(1 /* soft */); }
    #define FO_HANGS_AFTER_FORK 1
  #else
    static inline int fo_can_pause(void) { return 0; }
    static inline void fo_pause(void) {}
    #define FO_HANGS_AFTER_FORK 0
  #endif
  static inline int fo_max_threads(void) { return omp_get_max_threads(); }
  static inline int fo_thread_limit(void) { return omp_get_thread_limit(); }
  static inline int fo_processors(void) { return omp_get_num_procs(); }
#else
  #define FO_OPENMP 0
  #define FO_HANGS_AFTER_FORK 0
  static inline int fo_can_pause(void) { return 0; }
  static inline void fo_pause(void) {}
  static inline int fo_max_threads(void) { return 1; }
  static inline int fo_thread_limit(void) { return 1; }
  static inline int fo_processors(void) { return 1; }
#endif

/* ---------------------------------------------------------------- numbers and memory */

#if defined(__x86_64__) || defined(_M_X64)
  #include <xmmintrin.h>
  typedef unsigned int fo_float_mode;
  static inline fo_float_mode fo_set_mode(int flush) {
      fo_float_mode before = _mm_getcsr();
      /* round to nearest, no traps; subnormals kept, or results and operands flushed */
      _mm_setcsr(flush ? 0x9FC0 : 0x1F80);
      return before;
  }
  static inline void fo_put_back(fo_float_mode before) { _mm_setcsr(before); }
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
  typedef unsigned long fo_float_mode;
  static inline fo_float_mode fo_set_mode(int flush) {
      fo_float_mode before;
      __asm__ __volatile__("mrs %0, fpcr" : "=r"(before));
      __asm__ __volatile__("msr fpcr, %0" : : "r"(flush ? 1UL << 24 : 0UL));
      return before;
  }
  static inline void fo_put_back(fo_float_mode before) {
      __asm__ __volatile__("msr fpcr, %0" : : "r"(before));
  }
#else
  #include <fenv.h>
  typedef fenv_t fo_float_mode;
  #define FO_CANNOT_FLUSH 1
  static inline fo_float_mode fo_set_mode(int flush) {
      fenv_t before; (void) flush; fegetenv(&before); fesetenv(FE_DFL_ENV); return before;
  }
  static inline void fo_put_back(fo_float_mode before) { fesetenv(&before); }
#endif

#ifndef FO_CANNOT_FLUSH
  #define FO_CANNOT_FLUSH 0
#endif

#if defined(__GNUC__) || defined(__clang__)
  #define FO_PREFETCH(address) __builtin_prefetch((const void *) (address), 1)
  #define FO_PREFETCH_READ(address) __builtin_prefetch((const void *) (address), 0, 2)    /* into L2 */
#else
  #define FO_PREFETCH(address) ((void) (address))
  #define FO_PREFETCH_READ(address) ((void) (address))
#endif

/* The lowest bit that is set, and how many are. */
#if defined(__GNUC__) || defined(__clang__)
  static inline int fo_lowest(uint64_t x) { return __builtin_ctzll(x); }
#else
  static inline int fo_lowest(uint64_t x) { int k = 0; while (!(x >> k & 1)) k++; return k; }
#endif
/* In plain C, since the baseline instruction set has no instruction for it. */
static inline int fo_ones(uint64_t x) {
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return (int) (((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

/* Seconds of a clock that never goes back. */
#ifdef _WIN32
  #include <windows.h>
  static inline double fo_now(void) {
      LARGE_INTEGER ticks, per_second;
      QueryPerformanceCounter(&ticks);
      QueryPerformanceFrequency(&per_second);
      return (double) ticks.QuadPart / (double) per_second.QuadPart;
  }
#else
  #include <time.h>
  static inline double fo_now(void) {
      struct timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
  }
#endif

/* Whether other processes keep the processors busy; 0 where the system does not tell.

   Threads of this process that may be running are taken off: as many as there are, but for a
   product and an update no more than two to a processor, less the caller. */
#ifdef __linux__
  #include <stdio.h>
  #include <unistd.h>
  static inline int fo_crowded(void) {
      long own = 1, running = 0, processors = sysconf(_SC_NPROCESSORS_ONLN);
      char text[1024], *end;
      size_t n;
      FILE *file = fopen("/proc/loadavg", "r");
      if (!file)
          return 0;
      if (fscanf(file, "%*s %*s %*s %ld/", &running) != 1)     /* no %f: locales differ */
          running = 0;
      fclose(file);
      file = fopen("/proc/self/stat", "r");
      if (!file)
          return 0;
      n = fread(text, 1, sizeof text - 1, file);
      fclose(file);
      text[n] = 0;
      end = strrchr(text, ')');       /* the name before it may contain anything */
      if (!end || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d"
                                  " %*d %ld", &own) != 1)
          return 0;
      return running > (own < 2 * processors - 1 ? own : 2 * processors - 1);
  }
#else
  static inline int fo_crowded(void) { return 0; }
#endif

/* By its bits, since a caller may have switched its thread to take subnormals for zero. */
static inline int fo_is_zero(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits << 1 == 0;
}

/* Copies n words of a float's or a double's bits; -0 becomes 0, as it does in a sum that starts at 0.
   By the bits, since a caller may have switched its thread to take subnormals for zero. */
static inline void fo_copy_as_sum32(const uint32_t *a, uint32_t *x, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = a[i] == 0x80000000u ? 0 : a[i];
}
static inline void fo_copy_as_sum64(const uint64_t *a, uint64_t *x, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = a[i] == (uint64_t) 1 << 63 ? 0 : a[i];
}

/* volatile keeps the conversion between the two changes of mode */
static inline float fo_rounded(double x) {
    fo_float_mode before = fo_set_mode(0);
    volatile double wide = x;
    volatile float narrow = (float) wide;
    fo_put_back(before);
    return narrow;
}

#endif
