/* Steps of small dense networks: everything from rows to Adam without coming back in between.
 *
 * Compiled on the machine it runs on; see compiled.py. In two precisions by the same text.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

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
