/* Steps of small dense networks: everything from rows to Adam without coming back in between.
 *
 * Compiled on the machine it runs on; see compiled.py. In two precisions by the same text.
 */

#ifdef __linux__
#define _GNU_SOURCE /* of a thread's processors */
#endif

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define INLINE static inline __attribute__((always_inline))

/* Bytes of a vector register, and rows of a product that are worked on together: as many sums as
 * the registers hold. */
#ifndef BYTES
#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
#endif
#define TALL (BYTES == 64 ? 12 : 6)

/* Numbers of two vectors in turn: of their first halves, or of their second ones. */
#ifdef __clang__
#define MIXED(one, other, ...) __builtin_shufflevector(one, other, __VA_ARGS__)
#else
#define MIXED(one, other, ...) __builtin_shuffle(one, other, (Bits){__VA_ARGS__})
#endif
#define FIRSTS_4 0, 4, 1, 5
#define SECONDS_4 2, 6, 3, 7
#define FIRSTS_8 0, 8, 1, 9, 2, 10, 3, 11
#define SECONDS_8 4, 12, 5, 13, 6, 14, 7, 15
#define FIRSTS_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SECONDS_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31

/* A layer: numbers of slots, and positions of weights, as in layer_table.py. */
typedef struct {
    int64_t source, target, weight, bias, n_inputs, n_outputs, input_stride, output_stride, adds, act, has_grad;
} Layer;

/* Settings of a network's losses and its Adam, as in layer_table.py. */
typedef struct {
    double clip, decay, share, leak, matrices, fresh1, fresh2, log1, log2, eps;
} Settings;

/* A column of a table, or several that are judged alike: its kind, its first feature and how many. */
typedef struct {
    int64_t kind, start, size;
} Column;

enum { NUMBERS, BOOLEANS, CATEGORIES };

/* How rows are judged whose columns are of several kinds, or of which values are missing. */
typedef struct {
    const Column *columns;
    int64_t count, has_categories;
    int64_t fill_value;     /* the first of the weights that stand in for missing values, or -1 */
    double min_columns, delta;  /* the smallest number of known columns; the Huber threshold */
    const void *features; /* (3, D): what each was divided by, its weight, its share of a column */
} Table;

/* Each batch is taken in so many parts, by one thread or by two: sums are the same either way. */
enum { PARTS = 2, SLOTS = 64 };

/* Where threads wait for each other: those of small networks for less time than it takes a system to
 * wake anyone. Where the other thread has lost its processor to somebody else, that is a stall. */
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

INLINE void meet(Barrier *barrier)
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

/* A thread on any processor but this one: what is begun often runs where it was begun for longer than
 * all the steps take. */
static int aside(pthread_t *thread, void *(*does)(void *), void *with)
{
    pthread_attr_t how;
    if (pthread_attr_init(&how))
        return 1;
#ifdef __linux__
    cpu_set_t all;
    int here = sched_getcpu();
    if (here >= 0 && here < CPU_SETSIZE && !sched_getaffinity(0, sizeof all, &all) && CPU_COUNT(&all) > 1) {
        CPU_CLR(here, &all);
        pthread_attr_setaffinity_np(&how, sizeof all, &all);
    }
#endif
    int failed = pthread_create(thread, &how, does, with);
    pthread_attr_destroy(&how);
    return failed;
}

enum { LINEAR, SILU, RELU, GELU, TANH, SIGMOID, SOFTPLUS, ELU };

#define REAL float
#define WHOLE int32_t
#define NAME(name) name##_single
#define HIGHEST 88.0f
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
#undef WHOLE
#undef NAME
#undef HIGHEST
#undef BIAS
#undef MANTISSA
#undef FIRSTS
#undef SECONDS

#define REAL double
#define WHOLE int64_t
#define NAME(name) name##_double
#define HIGHEST 708.0
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
