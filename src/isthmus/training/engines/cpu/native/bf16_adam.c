/* Adam on weights in single precision, whose grads are in bf16 and of which products take copies in
 * bf16: norm, clipping, decay, step and copies on one way through memory. See lowered.py.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The pool of threads of the library that torch brings along. Its threads wait for work by spinning,
 * so that others of our own would share their processors with them. */
#ifdef __ELF__
extern void GOMP_parallel(void (*does)(void *), void *with, unsigned threads, unsigned flags)
    __attribute__((weak));
#endif

enum { PIECE = 1 << 15 }; /* weights that a thread takes at a time */

/* Settings of a network's losses and its Adam, as in layer_table.py. */
typedef struct {
    double clip, decay, share, leak, matrices, fresh1, fresh2, log1, log2, eps;
} Settings;

typedef struct {
    const Settings *settings;
    float *values, *mean, *square;
    const uint16_t *grads;
    uint16_t *low;
    int64_t count;
    int is_adamw;       /* whether decay is AdamW's */
    double *squares; /* the squared norm of each piece's grads */
} Weights;

typedef struct {
    const Weights *of;
    double rate, step, share;
    int64_t next;
    void (*does)(void *move, int64_t first, int64_t last);
} Move;

static inline float raised(uint16_t low)
{
    uint32_t bits = (uint32_t)low << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Rounded to the nearest, and to even ones between two; what is no number stays none. */
static inline uint16_t lowered(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
    return (uint16_t)((value != value ? bits | 0x400000 : rounded) >> 16);
}

static void measured(void *with, int64_t first, int64_t last)
{
    const Weights *of = ((Move *)with)->of;
    float lanes[64] = {0};
    int64_t k = first;
    for (; k + 64 <= last; k += 64)
        for (int lane = 0; lane < 64; lane++) {
            float grad = raised(of->grads[k + lane]);
            lanes[lane] += grad * grad;
        }
    double sum = 0;
    for (int lane = 0; lane < 64; lane++)
        sum += lanes[lane];
    if (!(sum < 1e30)) /* squares may be beyond this precision where their root is not */
        sum = 0, k = first;
    for (; k < last; k++)
        sum += (double)raised(of->grads[k]) * raised(of->grads[k]);
    of->squares[first / PIECE] = sum;
}

/* Those of `first` to before `last` that decay by so much. */
static void moved(const Move *move, int64_t first, int64_t last, double decay)
{
    const Weights *of = move->of;
    const Settings *set = of->settings;
    float kept = (float)(of->is_adamw ? 1 - move->rate * decay : 1), pulled = (float)(of->is_adamw ? 0 : decay);
    float fresh1 = (float)set->fresh1, fresh2 = (float)set->fresh2, eps = (float)set->eps;
    float far = (float)(move->rate / -expm1(move->step * set->log1));
    float root = (float)(1 / sqrt(-expm1(move->step * set->log2))), share = (float)move->share;
    float *restrict w = of->values, *restrict m = of->mean, *restrict v = of->square;
    const uint16_t *restrict grads = of->grads;
    uint16_t *restrict low = of->low;
    for (int64_t k = first; k < last; k++) {
        float g = raised(grads[k]) * share + w[k] * pulled;
        m[k] += fresh1 * (g - m[k]);
        v[k] += fresh2 * (g * g - v[k]);
        w[k] = w[k] * kept - far * m[k] / (sqrtf(v[k]) * root + eps);
        low[k] = lowered(w[k]);
    }
}

static void moved_all(void *with, int64_t first, int64_t last)
{
    const Move *move = with;
    int64_t middle = (int64_t)move->of->settings->matrices; /* only these decay */
    middle = middle < first ? first : middle > last ? last : middle;
    moved(move, first, middle, move->of->settings->decay);
    moved(move, middle, last, 0);
}

/* Pieces, one after the other, until none is left: as many threads as there are take part. */
static void take(void *with)
{
    Move *move = with;
    int64_t count = move->of->count, first;
    while ((first = PIECE * __atomic_fetch_add(&move->next, 1, __ATOMIC_RELAXED)) < count)
        move->does(move, first, first + PIECE < count ? first + PIECE : count);
}

static void together(Move *move, void (*does)(void *, int64_t, int64_t), int threads)
{
    move->does = does;
    move->next = 0;
#ifdef __ELF__
    if (GOMP_parallel && threads > 1) {
        GOMP_parallel(take, move, (unsigned)threads, 0);
        return;
    }
#endif
    take(move);
}

/* How many numbers `squares` is to hold. */
int64_t pieces_of(int64_t count)
{
    return (count + PIECE - 1) / PIECE;
}

/* Step number `step`, from 1 on, at some rate. */
void move_lowered(const Settings *settings, float *values, const uint16_t *grads, float *mean, float *square,
                  uint16_t *low, int64_t count, int is_adamw, double rate, double step, int threads,
                  double *squares)
{
    Weights of = {settings, values, mean, square, grads, low, count, is_adamw, squares};
    Move move = {&of, rate, step, 1, 0, 0};
    if (isfinite(settings->clip)) {
        double norm = 0;
        together(&move, measured, threads);
        for (int64_t piece = 0; piece < pieces_of(count); piece++)
            norm += squares[piece];
        double share = settings->clip / (sqrt(norm) + 1e-6);
        move.share = share >= 1 ? 1 : share;
    }
    together(&move, moved_all, threads);
}
