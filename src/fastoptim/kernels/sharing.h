/* OpenBLAS's jobs on OpenMP's threads. See sharing.pyx. */

#ifndef FASTOPTIM_SHARING_H
#define FASTOPTIM_SHARING_H

#include <stddef.h>

typedef void (*fo_job)(int number, void *job, int data);

#if defined(_OPENMP) && !defined(_WIN32)
  #include <omp.h>
  #include <pthread.h>
  #include <stdlib.h>
  #include <time.h>

  #define FO_CAN_SHARE 1

  static pthread_mutex_t fo_turn = PTHREAD_MUTEX_INITIALIZER;
  static int fo_last_number = 0;      /* OpenBLAS has buffers for the numbers below */
  static int fo_size = 1;             /* of the region, at least */

  typedef struct {
      fo_job run;
      int number, data;
      void *job;
      pthread_t thread;
  } fo_errand;

  static void *fo_do_errand(void *given) {
      fo_errand *errand = (fo_errand *) given;
      errand->run(errand->number, errand->job, errand->data);
      return NULL;
  }

  static void fo_start_thread(fo_errand *errand) {
      struct timespec pause = {0, 1000000};
      while (pthread_create(&errand->thread, NULL, fo_do_errand, errand))
          nanosleep(&pause, NULL);    /* the job cannot be left out, the others wait for it */
  }

  static void fo_run_jobs(int sync, fo_job run, int n, size_t size, void *jobs, int data) {
      int started = 0, first = 0, dynamic, i;
      fo_errand *errands = NULL;
      (void) sync;
      pthread_mutex_lock(&fo_turn);
      first = fo_last_number - n;
      dynamic = omp_get_dynamic();
      omp_set_dynamic(0);
      #pragma omp parallel num_threads(n > fo_size ? n : fo_size)
      {
          int k = omp_get_thread_num(), team = omp_get_num_threads(), j;
          if (k == 0 && team < n) {
              while (!(errands = (fo_errand *) malloc((n - team) * sizeof(fo_errand)))) {
                  struct timespec pause = {0, 1000000};
                  nanosleep(&pause, NULL);
              }
              for (j = team; j < n; j++) {
                  fo_errand *one = &errands[started++];
                  one->run = run;
                  one->number = first + j;
                  one->data = data;
                  one->job = (char *) jobs + j * size;
                  fo_start_thread(one);
              }
          }
          if (k < n)
              run(first + k, (char *) jobs + k * size, data);
      }
      for (i = 0; i < started; i++)
          pthread_join(errands[i].thread, NULL);
      free(errands);
      omp_set_dynamic(dynamic);
      pthread_mutex_unlock(&fo_turn);
  }

  static void fo_lock_turn(void) { pthread_mutex_lock(&fo_turn); }
  static void fo_unlock_turn(void) { pthread_mutex_unlock(&fo_turn); }
  static int fo_guard_forks(void) {
      return pthread_atfork(fo_lock_turn, fo_unlock_turn, fo_unlock_turn);
  }
  static void fo_set_sizes(int last_number, int size) {
      pthread_mutex_lock(&fo_turn);
      fo_last_number = last_number;
      fo_size = size;
      pthread_mutex_unlock(&fo_turn);
  }
#else
  #define FO_CAN_SHARE 0
  static void fo_run_jobs(int sync, fo_job run, int n, size_t size, void *jobs, int data) {
      int k;
      (void) sync;
      for (k = 0; k < n; k++)
          run(k, (char *) jobs + k * size, data);
  }
  static int fo_guard_forks(void) { return 0; }
  static void fo_set_sizes(int last_number, int size) { (void) last_number; (void) size; }
#endif

#endif
