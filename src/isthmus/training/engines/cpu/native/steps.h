/* The code of steps.c for one precision. */

#define LANES ((int64_t)(BYTES / sizeof(REAL)))
#define WIDE (2 * LANES)
#define PADDED(n) (((n) + WIDE - 1) / WIDE * WIDE)
#define Vector NAME(Vector)
#define Bits NAME(Bits)
#define Run NAME(Run)
#define Work NAME(Work)

typedef REAL Vector __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER Bits __attribute__((vector_size(BYTES)));

/* The buffers of one part of each batch. */
typedef struct {
    const Layer *layers;
    int64_t count;
    const REAL *values;
    REAL *grads;
    REAL *before[SLOTS], *after[SLOTS], *ahead[SLOTS]; /* per slot, (rows, PADDED(width)): z, act(z), gradients */
    REAL *packed;                                      /* a layer's weights, in rows of padded width */
    REAL *weight;                                      /* per row */
    REAL *inputs;                                      /* the rows with missing values, which after[0] replaces */
} Run;

/* The arguments and buffers of a call, shared by its threads. */
typedef struct {
    const Layer *layers;
    int64_t count;
    const Settings *settings;
    REAL *values, *grads, *mean, *square;
    int64_t weights;
    double done;
    const REAL *rows, *row_weights;
    const int64_t *positions;
    const REAL *bounds;
    const Table *table;
    const double *rates;
    const int64_t *sizes;
    int64_t n_steps;
    int is_adamw;
    double *losses;
    Run run[PARTS];
    double loss[PARTS], norm[PARTS];
    Barrier barrier;
} Work;

INLINE Vector NAME(select)(Bits which, Vector yes, Vector no)
{
    return (Vector)((which & (Bits)yes) | (~which & (Bits)no));
}

/* exp, by powers of two and the polynomial, or in double precision the fraction, of Cephes (Moshier 1992). */
INLINE Vector NAME(exponential)(Vector x)
{
    const Vector zero = {0};
    Vector input = x;
    x = NAME(select)(x > EXP_MAX, zero + EXP_MAX, x);
    x = NAME(select)(x < -EXP_MAX, zero - EXP_MAX, x);
    Vector scaled = x * (REAL)1.44269504088896341;
    Bits n = __builtin_convertvector(scaled + NAME(select)(x < 0, zero - (REAL)0.5, zero + (REAL)0.5), Bits);
    Vector whole = __builtin_convertvector(n, Vector);
#ifdef DOUBLE
    Vector r = x - whole * 6.93145751953125E-1 - whole * 1.42860682030941723212E-6;
    Vector rr = r * r;
    Vector p = r * ((1.26177193074810590878E-4 * rr + 3.02994407707441961300E-2) * rr
                    + 9.99999999999999999910E-1);
    Vector q = ((3.00198505138664455042E-6 * rr + 2.52448340349684104192E-3) * rr
                + 2.27265548208155028766E-1) * rr + 2.0;
    Vector y = 1.0 + 2.0 * p / (q - p);
#else
    Vector r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vector p = ((((1.9875691500E-4f * r + 1.3981999507E-3f) * r + 8.3334519073E-3f) * r
                 + 4.1665795894E-2f) * r + 1.6666665459E-1f) * r + 5.0000001201E-1f;
    Vector y = p * r * r + r + 1.0f;
#endif
    y = y * (Vector)((n + BIAS) << MANTISSA);
    return NAME(select)(input != input, input, y); /* NaN stays NaN */
}

INLINE Vector NAME(logistic)(Vector z)
{
    return 1 / (1 + NAME(exponential)(-z));
}

/* a = act(z) for n numbers, a multiple of LANES; z is overwritten by act'(z). */
static void NAME(activate)(int64_t act, REAL *z, REAL *a, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        Vector v = *(const Vector *)(z + i), zero = {0}, one = zero + 1, y = v, d = one;
        if (act == SILU) {
            Vector l = NAME(logistic)(v);
            y = v * l;
            d = l * (1 + v * (1 - l));
        } else if (act == RELU) {
            y = NAME(select)(v < 0, zero, v);
            d = NAME(select)(v > 0, one, zero);
        } else if (act == TANH) {
            y = 2 * NAME(logistic)(2 * v) - 1;
            d = 1 - y * y;
        } else if (act == SIGMOID) {
            y = NAME(logistic)(v);
            d = y * (1 - y);
        } else if (act == ELU) {
            Vector e = NAME(exponential)(v);
            y = NAME(select)(v > 0, v, e - 1);
            d = NAME(select)(v > 0, one, e);
        } else if (act == GELU) {
            Vector density = (REAL)0.39894228040143267794 * NAME(exponential)((REAL)-0.5 * v * v);
            for (int64_t j = 0; j < LANES; j++)
                d[j] = (REAL)0.5 * (1 + (REAL)erf(v[j] * 0.70710678118654752440));
            y = v * d;
            d += v * density;
        } else if (act == SOFTPLUS) {
            for (int64_t j = 0; j < LANES; j++)
                y[j] = v[j] > 20 ? v[j] : (REAL)log1p(exp(v[j]));
            d = NAME(select)(v > 20, one, NAME(logistic)(v));
        }
        *(Vector *)(a + i) = y;
        *(Vector *)(z + i) = d;
    }
}

/* `tall` rows and WIDE columns of C, summed in registers. */
INLINE void NAME(tile)(int tall, int64_t inner, const REAL *a, int64_t a_row, int64_t a_inner,
                       const REAL *b, int64_t b_row, REAL *c, int64_t c_row, int64_t columns, int adds)
{
    Vector left[TALL] = {0}, right[TALL] = {0};
    for (int64_t k = 0; k < inner; k++) {
        Vector b0 = *(const Vector *)(b + k * b_row), b1 = *(const Vector *)(b + k * b_row + LANES);
        for (int m = 0; m < tall; m++) {
            REAL factor = a[m * a_row + k * a_inner];
            left[m] += factor * b0;
            right[m] += factor * b1;
        }
    }
    for (int m = 0; m < tall; m++) {
        REAL *to = c + m * c_row;
        if (columns >= WIDE) {
            Vector *out = (Vector *)to, *more = (Vector *)(to + LANES);
            if (adds)
                left[m] += *out, right[m] += *more;
            *out = left[m], *more = right[m];
            continue;
        }
        REAL sums[2 * BYTES / sizeof(REAL)];
        memcpy(sums, &left[m], BYTES);
        memcpy(sums + LANES, &right[m], BYTES);
        for (int64_t j = 0; j < columns; j++)
            to[j] = adds ? to[j] + sums[j] : sums[j];
    }
}

/* C (rows, columns) = A B or, if `adds`, C += A B. A has any strides. The rows of B are contiguous and
 * readable up to the next multiple of WIDE columns. Only `columns` of C are written. */
static void NAME(product)(int64_t rows, int64_t columns, int64_t inner, const REAL *a, int64_t a_row,
                          int64_t a_inner, const REAL *b, int64_t b_row, REAL *c, int64_t c_row, int adds)
{
    for (int64_t j = 0; j < columns; j += WIDE)
        for (int64_t i = 0; i < rows; i += TALL) {
            const REAL *from = a + i * a_row;
            REAL *to = c + i * c_row + j;
            int64_t left = rows - i, width = columns - j;
#define ROWS(n) NAME(tile)(n, inner, from, a_row, a_inner, b + j, b_row, to, c_row, width, adds)
            if (left >= TALL)
                ROWS(TALL);
            else if (left >= 4) {
                ROWS(4);
                i -= TALL - 4;
            } else if (left >= 2) {
                ROWS(2);
                i -= TALL - 2;
            } else {
                ROWS(1);
                i -= TALL - 1;
            }
#undef ROWS
        }
}

/* Transpose a tile of LANES by LANES numbers in log2(LANES) rounds of interleaving. */
INLINE void NAME(transpose_tile)(const REAL *from, int64_t from_row, REAL *to, int64_t to_row)
{
    Vector now[BYTES / sizeof(REAL)], next[BYTES / sizeof(REAL)];
    for (int64_t k = 0; k < LANES; k++)
        now[k] = *(const Vector *)(from + k * from_row);
    for (int64_t round = 1; round < LANES; round *= 2) {
        for (int64_t k = 0; k < LANES / 2; k++) {
            next[2 * k] = INTERLEAVED(now[k], now[k + LANES / 2], FIRSTS);
            next[2 * k + 1] = INTERLEAVED(now[k], now[k + LANES / 2], SECONDS);
        }
        for (int64_t k = 0; k < LANES; k++)
            now[k] = next[k];
    }
    for (int64_t k = 0; k < LANES; k++)
        *(Vector *)(to + k * to_row) = now[k];
}

/* A layer's weights as (rows, PADDED(columns)), from the strides of rows and columns. They are copied
 * to `to` unless they have that layout already. */
static const REAL *NAME(packed)(const REAL *w, REAL *to, int64_t rows, int64_t columns, int64_t by_row, int64_t by_column)
{
    int64_t wide = PADDED(columns), i = 0;
    if (by_column == 1 && by_row == wide)
        return w;
    for (; i + LANES <= rows && by_row == 1; i += LANES)
        for (int64_t j = 0; j + LANES <= columns; j += LANES)
            NAME(transpose_tile)(w + i + j * by_column, by_column, to + i * wide + j, wide);
    for (int64_t whole = i ? columns / LANES * LANES : 0, k = 0; k < rows; k++)
        for (int64_t j = k < i ? whole : 0; j < columns; j++)
            to[k * wide + j] = w[k * by_row + j * by_column];
    for (i = 0; i < rows && columns < wide; i++)
        memset(to + i * wide + columns, 0, (wide - columns) * sizeof(REAL));
    return to;
}

/* The forward pass of a part of a batch through a layer, with weights (n_inputs, PADDED(n_outputs)). */
static void NAME(forward)(const Run *run, const Layer *layer, const REAL *weights, int64_t rows)
{
    int64_t wide = PADDED(layer->n_outputs), from = PADDED(layer->n_inputs);
    REAL *z = run->before[layer->target];
    const REAL *bias = run->values + layer->bias;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < layer->n_outputs; j++)
            z[i * wide + j] = layer->adds ? z[i * wide + j] + bias[j] : bias[j];
        for (int64_t j = layer->n_outputs; j < wide; j++)
            z[i * wide + j] = 0;
    }
    NAME(product)(rows, wide, layer->n_inputs, run->after[layer->source], from, 1, weights, wide, z, wide, 1);
    if (layer->act)
        NAME(activate)(layer->act, z, run->after[layer->target], rows * wide);
}

/* The backward pass; the gradient in the input, if needed, uses weights (n_outputs, PADDED(n_inputs)). */
static void NAME(backward)(const Run *run, const Layer *layer, const REAL *weights, int64_t rows, int needs_grad)
{
    int64_t wide = PADDED(layer->n_outputs), from = PADDED(layer->n_inputs);
    int64_t n_inputs = layer->n_inputs, n_outputs = layer->n_outputs;
    REAL *s = run->ahead[layer->target], *sums = run->grads + layer->bias;
    const REAL *x = run->after[layer->source];
    REAL *grad = run->grads + layer->weight;
    if (layer->act)
        for (int64_t i = 0; i < rows * wide; i += LANES)
            *(Vector *)(s + i) *= *(const Vector *)(run->before[layer->target] + i);
    if (layer->input_stride == 1)
        NAME(product)(n_outputs, n_inputs, rows, s, 1, wide, x, from, grad, layer->output_stride, 0);
    else
        NAME(product)(n_inputs, n_outputs, rows, x, 1, from, s, wide, grad, layer->input_stride, 0);
    memset(sums, 0, n_outputs * sizeof(REAL));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n_outputs; j++)
            sums[j] += s[i * wide + j];
    if (needs_grad)
        NAME(product)(rows, from, n_outputs, s, wide, 1, weights, from, run->ahead[layer->source], from,
                      (int)layer->has_grad);
}

/* The residual of outputs after clipping to their bounds; `passed` is the derivative of the clipping:
 * 1, or `leak` outside the bounds. */
INLINE Vector NAME(residual)(Vector out, Vector x, Vector low, Vector high, REAL leak, Vector *passed)
{
    Vector one = {0}, clipped = NAME(select)(out < low, low, out);
    one += 1;
    clipped = NAME(select)(clipped > high, high, clipped);
    *passed = NAME(select)(clipped == out, one, one * leak);
    return clipped + leak * (out - clipped) - x;
}

/* The squared error of a part of a batch of `all` rows; writes its gradient in the last layer. */
static double NAME(squared_loss)(const Run *run, const Settings *settings, const REAL *bounds, int64_t rows, int64_t all)
{
    const Layer *layer = run->layers + run->count - 1;
    int64_t last = layer->target, width = layer->n_outputs, wide = PADDED(width);
    double scale = settings->share / (double)(all * width), losses = 0;
    REAL leak = (REAL)settings->leak;
    for (int64_t i = 0; i < rows; i++) {
        const REAL *raw = run->before[last] + i * wide, *inputs = run->after[0] + i * wide;
        REAL *grad = run->ahead[last] + i * wide;
        REAL weight = (REAL)(2 * scale) * run->weight[i];
        Vector sums = {0};
        for (int64_t j = 0; j < width; j += LANES) {
            Vector target = *(const Vector *)(inputs + j), low = {0}, high = {0}, passed = {0};
            int64_t size = (width - j < LANES ? width - j : LANES) * (int64_t)sizeof(REAL);
            Vector residual = *(const Vector *)(raw + j) - target;
            passed += 1;
            if (bounds) {
                memcpy(&low, bounds + j, size);
                memcpy(&high, bounds + width + j, size);
                residual = NAME(residual)(residual + target, target, low, high, leak, &passed);
            }
            sums += residual * residual;
            *(Vector *)(grad + j) = weight * residual * passed;
        }
        for (int64_t j = 0; j < LANES; j++)
            losses += (double)sums[j] * (double)weight / 2;
    }
    return losses;
}

#include "columns.h"

/* The first row of part number `part` of PARTS, and the number of its rows. */
#define FROM(part, size) ((size) * (part) / PARTS)

#define ROWS_OF(part, size) (FROM((part) + 1, size) - FROM(part, size))

/* The position of row number i of the batches among all rows. */
#define POSITION(i) (work->positions ? work->positions[i] : (i))

/* Prefetch a row of `features` numbers: its place in memory is random, which the processor cannot
 * predict. */
static void NAME(prefetch_row)(const REAL *row, int64_t features)
{
    for (int64_t j = 0; j < features; j += 64 / (int64_t)sizeof(REAL))
        __builtin_prefetch(row + j, 0, 2); /* into L2: L1 serves few requests at a time */
}

/* Load the rows of a part of the batch that begins at row `first`. */
static void NAME(load)(const Work *work, int part, int64_t first, int64_t size)
{
    const Run *run = &work->run[part];
    int64_t features = work->layers[0].n_inputs, wide = PADDED(features), start = first + FROM(part, size);
    for (int64_t i = 0; i < ROWS_OF(part, size); i++) {
        int64_t position = POSITION(start + i);
        if (i + 1 < ROWS_OF(part, size))
            NAME(prefetch_row)(work->rows + POSITION(start + i + 1) * features, features);
        memcpy(run->inputs + i * wide, work->rows + position * features, features * sizeof(REAL));
        run->weight[i] = work->row_weights ? work->row_weights[position] : 1;
    }
    if (work->table)
        NAME(fill_missing)(run, work->table, ROWS_OF(part, size), features);
}

/* The loss of a part of a batch. */
static double NAME(losses)(const Work *work, int part, int64_t size)
{
    const Run *run = &work->run[part];
    if (work->table)
        return NAME(table_loss)(run, work->table, work->bounds, (REAL)work->settings->leak, ROWS_OF(part, size), size);
    return NAME(squared_loss)(run, work->settings, work->bounds, ROWS_OF(part, size), size);
}

/* The forward pass of some parts of a batch and, in training, the backward pass. Each layer's weights
 * are packed once for all parts. */
static void NAME(pass)(Work *work, int begin, int end, int64_t first, int64_t size)
{
    REAL *scratch = work->run[begin].packed;
    for (int part = begin; part < end; part++)
        NAME(load)(work, part, first, size);
    for (const Layer *layer = work->layers; layer < work->layers + work->count; layer++) {
        const REAL *weights = NAME(packed)(work->values + layer->weight, scratch, layer->n_inputs, layer->n_outputs,
                                           layer->input_stride, layer->output_stride);
        for (int part = begin; part < end; part++)
            NAME(forward)(&work->run[part], layer, weights, ROWS_OF(part, size));
    }
    for (int part = begin; part < end; part++)
        work->loss[part] = NAME(losses)(work, part, size);
    int fills = work->table && work->table->fill_value >= 0;
    for (int64_t n = work->count - 1; n >= 0 && work->mean; n--) {
        const Layer *layer = work->layers + n;
        int needs_grad = layer->source || fills;
        const REAL *weights = needs_grad ? NAME(packed)(work->values + layer->weight, scratch, layer->n_outputs,
                                                   layer->n_inputs, layer->output_stride, layer->input_stride) : 0;
        for (int part = begin; part < end; part++)
            NAME(backward)(&work->run[part], layer, weights, ROWS_OF(part, size), needs_grad);
    }
    for (int part = begin; part < end && fills && work->mean; part++)
        NAME(fill_value_grad)(&work->run[part], work->table, ROWS_OF(part, size), work->layers[0].n_inputs);
}

/* For a part of the weights: the sum of the gradients of all parts of the batch, and its squared norm. */
static void NAME(gather)(Work *work, int part)
{
    int64_t i = FROM(part, work->weights), end = FROM(part + 1, work->weights);
    const REAL *first = work->run[0].grads, *last = work->run[PARTS - 1].grads;
    Vector parts = {0};
    double norm = 0;
    for (; i + LANES <= end; i += LANES) {
        Vector g = *(const Vector *)(first + i) + *(const Vector *)(last + i);
        *(Vector *)(work->grads + i) = g;
        parts += g * g;
    }
    for (; i < end; i++) {
        work->grads[i] = first[i] + last[i];
        norm += (double)work->grads[i] * work->grads[i];
    }
    for (int64_t j = 0; j < LANES; j++)
        norm += parts[j];
    if (!(norm < 1e30)) { /* the squares may overflow in this precision although the norm does not */
        norm = 0;
        for (i = FROM(part, work->weights); i < end; i++)
            norm += (double)work->grads[i] * work->grads[i];
    }
    work->norm[part] = norm;
}

/* Clipping, decay and the step of Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019) for a
 * part of the weights. */
static void NAME(update)(const Work *work, int part, double rate, double step)
{
    const Settings *set = work->settings;
    double norm = 0;
    for (int p = 0; p < PARTS; p++)
        norm += work->norm[p];
    double clip = set->clip / (sqrt(norm) + 1e-6);
    REAL share = (REAL)(clip >= 1 ? 1 : clip), eps = (REAL)set->eps;
    REAL one_minus_beta1 = (REAL)set->one_minus_beta1, one_minus_beta2 = (REAL)set->one_minus_beta2;
    REAL step_size = (REAL)(rate / -expm1(step * set->log_beta1));
    REAL root = (REAL)(1 / sqrt(-expm1(step * set->log_beta2)));
    int64_t start = FROM(part, work->weights), end = FROM(part + 1, work->weights);
    int64_t middle = (int64_t)set->matrices;
    middle = middle < start ? start : middle > end ? end : middle;
    int64_t bounds[2] = {middle, end};
    for (int half = 0; half < 2; start = bounds[half++]) {
        double decay = half ? 0 : set->decay;
        REAL shrink = (REAL)(work->is_adamw ? 1 - rate * decay : 1), l2 = (REAL)(work->is_adamw ? 0 : decay);
        REAL *restrict w = work->values, *restrict m = work->mean, *restrict v = work->square;
        const REAL *restrict grads = work->grads;
        for (int64_t k = start; k < bounds[half]; k++) {
            REAL g = grads[k] * share + w[k] * l2;
            m[k] += one_minus_beta1 * (g - m[k]);
            v[k] += one_minus_beta2 * (g * g - v[k]);
#ifdef DOUBLE
            w[k] = w[k] * shrink - step_size * m[k] / (sqrt(v[k]) * root + eps);
#else
            w[k] = w[k] * shrink - step_size * m[k] / (sqrtf(v[k]) * root + eps);
#endif
        }
    }
}

/* All steps, as taken by the thread that works on the parts from `first` to `last` - 1. */
static void NAME(run_steps)(Work *work, int first, int last)
{
    for (int64_t k = 0, row = 0; k < work->n_steps; row += work->sizes[k++]) {
        NAME(pass)(work, first, last, row, work->sizes[k]);
        barrier_wait(&work->barrier);
        for (int part = first; part < last && work->mean; part++)
            NAME(gather)(work, part);
        if (!first) {
            work->losses[k] = 0;
            for (int part = 0; part < PARTS; part++)
                work->losses[k] += work->loss[part];
        }
        barrier_wait(&work->barrier);
        if (!work->mean)
            continue;
        for (int part = first; part < last; part++)
            NAME(update)(work, part, work->rates[k], work->done + (double)(k + 1));
        barrier_wait(&work->barrier);
    }
}

static void *NAME(run_helper)(void *work)
{
    NAME(run_steps)(work, 1, PARTS);
    return 0;
}

/* The scratch memory of a part of batches of up to `rows` rows, in numbers; sets the pointers of `run`,
 * if any. */
static int64_t NAME(layout)(const Layer *layers, int64_t count, const Table *table, int64_t rows, int64_t weights,
                           REAL *scratch, Run *run)
{
    int64_t used = weights + rows + WIDE, packed = 0;
    for (int64_t n = 0; n < count; n++) {
        int64_t forward = layers[n].n_inputs * PADDED(layers[n].n_outputs), backward = layers[n].n_outputs * PADDED(layers[n].n_inputs);
        packed = forward > packed ? forward : packed;
        packed = backward > packed ? backward : packed;
    }
    if (run)
        run->grads = scratch, run->weight = scratch + weights, run->packed = scratch + used;
    used += packed + WIDE;
    for (int64_t slot = 0; slot <= count; slot++) {
        int64_t size = slot ? 0 : PADDED(layers[0].n_inputs) * rows;
        for (int64_t n = 0; n < count; n++)
            if (layers[n].target == slot)
                size = PADDED(layers[n].n_outputs) * rows;
        int has_act = 0;
        for (int64_t n = 0; n < count; n++)
            has_act |= layers[n].target == slot && layers[n].act;
        if (run) {
            run->before[slot] = scratch + used, run->ahead[slot] = scratch + used + size;
            run->after[slot] = has_act ? scratch + used + 2 * size : scratch + used;
            if (!slot) /* a table needs two copies of the rows */
                run->inputs = table ? scratch + used + 2 * size : run->after[0];
        }
        used += 3 * size;
    }
    return used;
}

/* The bytes of scratch memory that `steps` needs for batches of up to `rows` rows. */
int64_t NAME(scratch_size)(const Layer *layers, int64_t count, int64_t rows, int64_t weights)
{
    return PARTS * NAME(layout)(layers, count, 0, rows, weights, 0, 0) * (int64_t)sizeof(REAL);
}

/* Take `n_steps` optimizer steps. Step k has a batch of sizes[k] rows (., D) and learning rate rates[k].
 * losses[k] is its loss before the step: the squared error, or the loss of the columns of `table`.
 * Without `mean` the weights stay the same and only losses are computed. Returns whether the threads
 * stalled too often. */
int NAME(steps)(const Layer *layers, int64_t count, const Settings *settings, REAL *values,
                REAL *grads, REAL *mean, REAL *square, int64_t weights, double done,
                const REAL *rows, const REAL *row_weights, const int64_t *positions,
                const REAL *bounds, const Table *table, const double *rates, const int64_t *sizes, int64_t n_steps,
                int64_t max_rows, int is_adamw, int two_threads, REAL *scratch, double *losses)
{
    Work work = {layers, count, settings, values, grads, mean, square, weights, done, rows,
                 row_weights, positions, bounds, table, rates, sizes, n_steps, is_adamw, losses, {{0}}, {0}, {0}, {0}};
    for (int part = 0; part < PARTS; part++) {
        Run *run = &work.run[part];
        run->layers = layers, run->count = count, run->values = values;
        scratch += NAME(layout)(layers, count, table, max_rows, weights, scratch, run);
    }
    pthread_t helper;
    work.barrier.threads = two_threads ? 2 : 1;
    if (two_threads && start_thread(&helper, NAME(run_helper), &work))
        two_threads = 0, work.barrier.threads = 1;
    NAME(run_steps)(&work, 0, two_threads ? 1 : PARTS);
    if (two_threads)
        pthread_join(helper, 0);
    return work.barrier.stalls > MOST_STALLS;
}

#undef POSITION
#undef FROM
#undef ROWS_OF
#undef LANES
#undef WIDE
#undef PADDED
#undef Vector
#undef Bits
#undef Run
#undef Work
