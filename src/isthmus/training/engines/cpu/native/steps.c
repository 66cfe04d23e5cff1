/* Training steps of small dense networks: many steps, from the rows to Adam, in one call.
 *
 * Compiled on the machine it runs on; see build.py. steps.h is included once per precision.
 */

#ifdef __linux__
#define _GNU_SOURCE /* for a thread's processors */
#endif

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define INLINE static inline __attribute__((always_inline))

/* Bytes of a vector register, and rows of a tile of a product: as many as the registers can sum. */
#ifndef BYTES
#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
#endif
#define TALL (BYTES == 64 ? 12 : 6)

/* Interleave the first halves (FIRSTS) or the second halves (SECONDS) of two vectors. */
#ifdef __clang__
#define INTERLEAVED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define INTERLEAVED(a, b, ...) __builtin_shuffle(a, b, (Bits){__VA_ARGS__})
#endif
#define FIRSTS_4 0, 4, 1, 5
#define SECONDS_4 2, 6, 3, 7
#define FIRSTS_8 0, 8, 1, 9, 2, 10, 3, 11
#define SECONDS_8 4, 12, 5, 13, 6, 14, 7, 15
#define FIRSTS_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SECONDS_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31

/* A layer: numbers of slots, and offsets of weights, as in layer_table.py. */
typedef struct {
    int64_t source, target, weight, bias, n_inputs, n_outputs, input_stride, output_stride, adds, act, has_grad;
} Layer;

/* Settings of the loss and of Adam, as in layer_table.py. */
typedef struct {
    double clip, decay, share, leak, matrices, one_minus_beta1, one_minus_beta2, log_beta1, log_beta2, eps;
} Settings;

/* A column of a table, or adjacent ones with the same loss: kind, first feature, number of features. */
typedef struct {
    int64_t kind, start, size;
} Column;

enum { NUMBERS, BOOLEANS, CATEGORIES };

/* The loss of rows with columns of several kinds or with missing values. */
typedef struct {
    const Column *columns;
    int64_t count, has_categories;
    int64_t fill_value;     /* the offset of the learned fill values among the weights, or -1 */
    double min_columns, delta;  /* the smallest divisor of the mean over columns; the Huber threshold */
    const void *features; /* (3, D): the divisor of each feature, its weight, its share of a column */
} Table;

/* Each batch has PARTS parts, for one thread or for two, so that sums do not depend on the threads. */
enum { PARTS = 2, SLOTS = 64 };

/* A barrier at which threads spin: the waits of small networks are shorter than a wake-up by the system.
 * A long wait, while another process has the processor of the other thread, is a stall. */
typedef struct {
    int threads, stalls;
    int waiting, round;
} Barrier;

enum { SPINS = 2000, MOST_STALLS = 3 };
static const double STALL_S = 5e-4;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

INLINE void barrier_wait(Barrier *barrier)
{
    if (barrier->threads == 1)
        return;
    int round = __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&barrier->waiting, 1, __ATOMIC_ACQ_REL) == barrier->threads) {
        barrier->waiting = 0;
        __atomic_store_n(&barrier->round, round + 1, __ATOMIC_RELEASE);
        return;
    }
    double since = 0;
    for (int64_t spin = 0; __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE) == round; spin++) {
        if (spin < SPINS) {
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#endif
            continue;
        }
        since = since ? since : seconds();
        sched_yield();
    }
    if (since && seconds() - since > STALL_S)
        __atomic_add_fetch(&barrier->stalls, 1, __ATOMIC_RELAXED);
}

/* Start a thread on any processor but this one. A new thread often stays on the processor of its creator
 * for longer than all the steps take. */
static int start_thread(pthread_t *thread, void *(*function)(void *), void *argument)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes))
        return 1;
#ifdef __linux__
    cpu_set_t all;
    int here = sched_getcpu();
    if (here >= 0 && here < CPU_SETSIZE && !sched_getaffinity(0, sizeof all, &all) && CPU_COUNT(&all) > 1) {
        CPU_CLR(here, &all);
        pthread_attr_setaffinity_np(&attributes, sizeof all, &all);
    }
#endif
    int failed = pthread_create(thread, &attributes, function, argument);
    pthread_attr_destroy(&attributes);
    return failed;
}

enum { LINEAR, SILU, RELU, GELU, TANH, SIGMOID, SOFTPLUS, ELU };

#define REAL float
#define INTEGER int32_t
#define NAME(name) name##_single
#define EXP_MAX 88.0f
#define BIAS 127
#define MANTISSA 23
#if BYTES == 64
#define FIRSTS FIRSTS_16
#define SECONDS SECONDS_16
#else
#define FIRSTS FIRSTS_8
#define SECONDS SECONDS_8
#endif
#include "steps.h"

#undef REAL
#undef INTEGER
#undef NAME
#undef EXP_MAX
#undef BIAS
#undef MANTISSA
#undef FIRSTS
#undef SECONDS

#define REAL double
#define INTEGER int64_t
#define NAME(name) name##_double
#define EXP_MAX 708.0
#define BIAS 1023
#define MANTISSA 52
#if BYTES == 64
#define FIRSTS FIRSTS_8
#define SECONDS SECONDS_8
#else
#define FIRSTS FIRSTS_4
#define SECONDS SECONDS_4
#endif
#define DOUBLE
#include "steps.h"
