/* Adam for weights in single precision with gradients in bf16: norm, clipping, decay, step and bf16
 * copies of the weights in one pass through memory. See bf16_adam.py.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The thread pool of the OpenMP library that torch loads. Its threads spin while they wait for work, so
 * separate threads would compete with them for the processors. */
#ifdef __ELF__
extern void GOMP_parallel(void (*function)(void *), void *argument, unsigned threads, unsigned flags)
    __attribute__((weak));
#endif

enum { PIECE = 1 << 15 }; /* weights per piece of work of a thread */

/* Settings of the loss and of Adam, as in layer_table.py. */
typedef struct {
    double clip, decay, share, leak, matrices, one_minus_beta1, one_minus_beta2, log_beta1, log_beta2, eps;
} Settings;

typedef struct {
    const Settings *settings;
    float *values, *mean, *square;
    const uint16_t *grads;
    uint16_t *bf16;
    int64_t count;
    int is_adamw;       /* whether decay is that of AdamW */
    double *squares; /* the squared norm of each piece's gradient */
} Weights;

typedef struct {
    const Weights *weights;
    double rate, step, share;
    int64_t next;
    void (*function)(void *adam, int64_t first, int64_t last);
} AdamStep;

static inline float from_bf16(uint16_t bf16)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Rounded to the nearest, and halfway to even; NaN stays NaN. */
static inline uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
    return (uint16_t)((value != value ? bits | 0x400000 : rounded) >> 16);
}

static void square_piece(void *argument, int64_t first, int64_t last)
{
    const Weights *weights = ((AdamStep *)argument)->weights;
    float lanes[64] = {0};
    int64_t k = first;
    for (; k + 64 <= last; k += 64)
        for (int lane = 0; lane < 64; lane++) {
            float grad = from_bf16(weights->grads[k + lane]);
            lanes[lane] += grad * grad;
        }
    double sum = 0;
    for (int lane = 0; lane < 64; lane++)
        sum += lanes[lane];
    if (!(sum < 1e30)) /* the squares may overflow in this precision although the norm does not */
        sum = 0, k = first;
    for (; k < last; k++)
        sum += (double)from_bf16(weights->grads[k]) * from_bf16(weights->grads[k]);
    weights->squares[first / PIECE] = sum;
}

/* Update the weights from `first` to `last` - 1, with weight decay `decay`. */
static void update_range(const AdamStep *adam, int64_t first, int64_t last, double decay)
{
    const Weights *weights = adam->weights;
    const Settings *set = weights->settings;
    float shrink = (float)(weights->is_adamw ? 1 - adam->rate * decay : 1), l2 = (float)(weights->is_adamw ? 0 : decay);
    float one_minus_beta1 = (float)set->one_minus_beta1, one_minus_beta2 = (float)set->one_minus_beta2, eps = (float)set->eps;
    float step_size = (float)(adam->rate / -expm1(adam->step * set->log_beta1));
    float root = (float)(1 / sqrt(-expm1(adam->step * set->log_beta2))), share = (float)adam->share;
    float *restrict w = weights->values, *restrict m = weights->mean, *restrict v = weights->square;
    const uint16_t *restrict grads = weights->grads;
    uint16_t *restrict bf16 = weights->bf16;
    for (int64_t k = first; k < last; k++) {
        float g = from_bf16(grads[k]) * share + w[k] * l2;
        m[k] += one_minus_beta1 * (g - m[k]);
        v[k] += one_minus_beta2 * (g * g - v[k]);
        w[k] = w[k] * shrink - step_size * m[k] / (sqrtf(v[k]) * root + eps);
        bf16[k] = to_bf16(w[k]);
    }
}

static void update_piece(void *argument, int64_t first, int64_t last)
{
    const AdamStep *adam = argument;
    int64_t middle = (int64_t)adam->weights->settings->matrices; /* the number of weights that decay */
    middle = middle < first ? first : middle > last ? last : middle;
    update_range(adam, first, middle, adam->weights->settings->decay);
    update_range(adam, middle, last, 0);
}

/* Take pieces until all are done; several threads run this at once. */
static void run_pieces(void *argument)
{
    AdamStep *adam = argument;
    int64_t count = adam->weights->count, first;
    while ((first = PIECE * __atomic_fetch_add(&adam->next, 1, __ATOMIC_RELAXED)) < count)
        adam->function(adam, first, first + PIECE < count ? first + PIECE : count);
}

static void run_parallel(AdamStep *adam, void (*function)(void *, int64_t, int64_t), int threads)
{
    adam->function = function;
    adam->next = 0;
#ifdef __ELF__
    if (GOMP_parallel && threads > 1) {
        GOMP_parallel(run_pieces, adam, (unsigned)threads, 0);
        return;
    }
#endif
    run_pieces(adam);
}

/* The number of pieces, and so the size of `squares`. */
int64_t n_pieces(int64_t count)
{
    return (count + PIECE - 1) / PIECE;
}

/* Take step number `step`, counted from 1, with learning rate `rate`. */
void bf16_adam_step(const Settings *settings, float *values, const uint16_t *grads, float *mean, float *square,
                  uint16_t *bf16, int64_t count, int is_adamw, double rate, double step, int threads,
                  double *squares)
{
    Weights weights = {settings, values, mean, square, grads, bf16, count, is_adamw, squares};
    AdamStep adam = {&weights, rate, step, 1, 0, 0};
    if (isfinite(settings->clip)) {
        double norm = 0;
        run_parallel(&adam, square_piece, threads);
        for (int64_t piece = 0; piece < n_pieces(count); piece++)
            norm += squares[piece];
        double share = settings->clip / (sqrt(norm) + 1e-6);
        adam.share = share >= 1 ? 1 : share;
    }
    run_parallel(&adam, update_piece, threads);
}
