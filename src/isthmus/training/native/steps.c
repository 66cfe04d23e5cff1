/* Steps of small dense networks: everything from rows to Adam without coming back in between.
 *
 * Compiled on the machine it runs on; see compiled.py. In two precisions by the same text.
 */

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define INLINE static inline __attribute__((always_inline))

/* Bytes of a vector register, and rows of a product that are worked on together: as many sums as
 * the registers hold. */
#ifdef __AVX512F__
#define BYTES 64
#define TALL 12
#else
#define BYTES 32
#define TALL 6
#endif

/* A layer: numbers of slots, and places of weights, as in slots.py. */
typedef struct {
    int64_t source, target, weight, bias, ins, outs, by_input, by_output, adds, act, reached;
} Layer;

/* Settings of a network's losses and its Adam, as in slots.py. */
typedef struct {
    double clip, decay, share, leak, matrices, fresh1, fresh2, log1, log2, eps;
} Settings;

/* Each batch is taken in so many parts, by one thread or by two: sums are the same either way. */
enum { PARTS = 2, SLOTS = 64 };

/* Where threads wait for each other: those of small networks for less time than it takes a system to
 * wake anyone. Where the other thread has lost its processor to somebody else, that is a stall. */
typedef struct {
    int threads, stalls;
    int waiting, round;
} Meeting;

enum { SPINS = 2000, MOST_STALLS = 3 };
static const double STALL_S = 5e-4;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

INLINE void meet(Meeting *meeting)
{
    if (meeting->threads == 1)
        return;
    int round = __atomic_load_n(&meeting->round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&meeting->waiting, 1, __ATOMIC_ACQ_REL) == meeting->threads) {
        meeting->waiting = 0;
        __atomic_store_n(&meeting->round, round + 1, __ATOMIC_RELEASE);
        return;
    }
    double since = 0;
    for (int64_t spin = 0; __atomic_load_n(&meeting->round, __ATOMIC_ACQUIRE) == round; spin++) {
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
        __atomic_add_fetch(&meeting->stalls, 1, __ATOMIC_RELAXED);
}

enum { LINEAR, SILU, RELU, GELU, TANH, SIGMOID, SOFTPLUS, ELU };

#define REAL float
#define WHOLE int32_t
#define NAME(name) name##_single
#define HIGHEST 88.0f
#define BIAS 127
#define MANTISSA 23
#include "steps.h"

#undef REAL
#undef WHOLE
#undef NAME
#undef HIGHEST
#undef BIAS
#undef MANTISSA

#define REAL double
#define WHOLE int64_t
#define NAME(name) name##_double
#define HIGHEST 708.0
#define BIAS 1023
#define MANTISSA 52
#define DOUBLE
#include "steps.h"
