/* The losses of tables, for steps.h: columns of several kinds, of which values may be missing (NaN). */

/* The squared error of n numbers, Huber's beyond `delta`; grads of what is known, 0 of the rest. */
static double NAME(numbers)(const REAL *raw, const REAL *given, REAL *grad, int64_t n, REAL delta)
{
    Vector sums = {0}, zero = {0}, high = zero + delta;
    double losses = 0;
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        Vector x = *(const Vector *)(given + j), off = *(const Vector *)(raw + j) - x;
        off = NAME(chosen)(x == x, off, zero);
        Vector kept = NAME(chosen)(off > high, high, NAME(chosen)(off < -high, -high, off));
        sums += kept * (2 * off - kept);
        *(Vector *)(grad + j) = 2 * kept;
    }
    for (int64_t lane = 0; lane < LANES; lane++)
        losses += sums[lane];
    for (; j < n; j++) {
        REAL off = given[j] == given[j] ? raw[j] - given[j] : 0;
        REAL kept = off > delta ? delta : off < -delta ? -delta : off;
        losses += kept * (2 * off - kept);
        grad[j] = 2 * kept;
    }
    return losses;
}

/* The cross-entropy of n booleans, whose outputs are logits; max(z, 0) - z y + log(1 + exp(-|z|)). The
 * logarithms are those of products, each of as many numbers between 1 and 2 as have room. */
static double NAME(booleans)(const REAL *raw, const REAL *given, REAL *grad, int64_t n, const REAL *scale)
{
    enum { ROOM = 64 };
    Vector sums = {0}, zero = {0}, one = zero + 1;
    double losses = 0;
    int64_t j = 0;
    while (j + LANES <= n) {
        Vector products = one;
        for (int64_t k = 0; k < ROOM && j + LANES <= n; k++, j += LANES) {
            Vector z = *(const Vector *)(raw + j), x = *(const Vector *)(given + j);
            Bits known = x == x, above = z >= zero;
            Vector y = x * *(const Vector *)(scale + j), small = NAME(exponential)(NAME(chosen)(above, -z, z));
            Vector lost = NAME(chosen)(above, z, zero) - z * y;
            Vector likely = NAME(chosen)(above, one, small) / (1 + small);
            sums += NAME(chosen)(known, lost, zero);
            products *= NAME(chosen)(known, 1 + small, one);
            *(Vector *)(grad + j) = NAME(chosen)(known, likely - y, zero);
        }
        for (int64_t lane = 0; lane < LANES; lane++)
            losses += log(products[lane]);
    }
    for (int64_t lane = 0; lane < LANES; lane++)
        losses += sums[lane];
    for (; j < n; j++) {
        double z = raw[j], y = given[j] * scale[j], small = exp(-fabs(z));
        int known = given[j] == given[j];
        losses += known ? (z > 0 ? z : 0) - z * y + log1p(small) : 0;
        grad[j] = (REAL)(known ? (z >= 0 ? 1 : small) / (1 + small) - y : 0);
    }
    return losses;
}

/* The cross-entropy of a category of n categories, of whose outputs less their largest `grad` has the
 * exponentials. What is missing has no level, and so neither error nor grad. */
static double NAME(categories)(const REAL *raw, const REAL *given, REAL *grad, int64_t n, const REAL *scale)
{
    double total = 0, all = 0, losses = 0;
    REAL largest = raw[0];
    for (int64_t j = 0; j < n; j++) {
        total += grad[j];
        all += given[j] == given[j] ? given[j] * scale[j] : 0;
        largest = raw[j] > largest ? raw[j] : largest;
    }
    double base = (double)largest + log(total);
    for (int64_t j = 0; j < n; j++) {
        double y = given[j] == given[j] ? given[j] * scale[j] : 0;
        losses += y ? y * (base - raw[j]) : 0;
        grad[j] = (REAL)(grad[j] / total * all - y);
    }
    return losses;
}

/* exp(z - the largest of its category) for all categories of a row, in the place of their grads. */
static void NAME(likelihoods)(const Table *table, const REAL *raw, REAL *grad, int64_t wide)
{
    for (const Column *column = table->columns; column < table->columns + table->count; column++) {
        const REAL *z = raw + column->start;
        REAL largest = z[0];
        for (int64_t j = 1; j < column->size && column->kind == CATEGORIES; j++)
            largest = z[j] > largest ? z[j] : largest;
        for (int64_t j = 0; j < column->size; j++)
            grad[column->start + j] = column->kind == CATEGORIES ? z[j] - largest : 0;
    }
    for (int64_t j = 0; j < wide; j += LANES)
        *(Vector *)(grad + j) = NAME(exponential)(*(const Vector *)(grad + j));
}

/* A row cut off where outputs end, in its own place. */
static void NAME(cut)(REAL *raw, const REAL *bounds, int64_t width, REAL leak)
{
    for (int64_t j = 0; j < width; j++) {
        REAL low = bounds[j], high = bounds[width + j], kept = raw[j] < low ? low : raw[j];
        kept = kept > high ? high : kept;
        raw[j] = kept + leak * (raw[j] - kept);
    }
}

/* What is known of a row, in columns. */
static double NAME(known)(const Table *table, const REAL *given, int64_t width)
{
    const REAL *share = (const REAL *)table->features + 2 * width;
    REAL known = 0;
    for (int64_t j = 0; j < width; j++)
        known += given[j] == given[j] ? share[j] : 0;
    return known > table->min_columns ? known : table->min_columns;
}

/* The loss of a part of a batch of `all` rows, the mean over rows of the mean over known columns; its
 * grad in the last layer is left. */
static double NAME(judge_columns)(const Run *run, const Table *table, const REAL *bounds, REAL leak, int64_t rows,
                                  int64_t all)
{
    const Layer *layer = run->layers + run->count - 1;
    int64_t last = layer->target, width = layer->n_outputs, wide = PADDED(width);
    const REAL *scale = table->features, *weight = scale + width;
    double losses = 0;
    for (int64_t i = 0; i < rows; i++) {
        REAL *raw = run->before[last] + i * wide, *grad = run->ahead[last] + i * wide;
        const REAL *given = run->given + i * wide;
        double each = run->weight[i] / ((double)all * NAME(known)(table, given, width)), lost = 0;
        if (bounds)
            NAME(cut)(raw, bounds, width, leak);
        if (table->has_categories)
            NAME(likelihoods)(table, raw, grad, wide);
        for (const Column *column = table->columns; column < table->columns + table->count; column++) {
            int64_t at = column->start, n = column->size;
            const REAL *z = raw + at, *x = given + at;
            REAL *s = grad + at, factor = column->kind == NUMBERS ? 1 : weight[at];
            lost += factor * (column->kind == NUMBERS ? NAME(numbers)(z, x, s, n, (REAL)table->delta)
                              : column->kind == BOOLEANS ? NAME(booleans)(z, x, s, n, scale + at)
                                                       : NAME(categories)(z, x, s, n, scale + at));
            for (int64_t j = 0; j < n; j++) /* beyond an end the gradient leaks, as the output does */
                s[j] *= (REAL)each * factor * (bounds && (z[j] < bounds[at + j] || z[j] > bounds[width + at + j]) ? leak : 1);
        }
        for (int64_t j = width; j < wide; j++)
            grad[j] = 0;
        losses += lost * each;
    }
    return losses;
}

/* What stands in for missing values, in a part of a batch; and on the way back, its grads. */
static void NAME(complete)(const Run *run, const Table *table, int64_t rows, int64_t width)
{
    const REAL *fill_value = run->values + table->fill_value;
    int64_t wide = PADDED(width);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j++) {
            REAL x = run->given[i * wide + j];
            run->after[0][i * wide + j] = table->fill_value < 0 || x == x ? x : fill_value[j];
        }
}

static void NAME(completed_back)(const Run *run, const Table *table, int64_t rows, int64_t width)
{
    REAL *grad = run->grads + table->fill_value;
    int64_t wide = PADDED(width);
    memset(grad, 0, width * sizeof(REAL));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j++) {
            REAL x = run->given[i * wide + j];
            grad[j] += x == x ? 0 : run->ahead[0][i * wide + j];
        }
}
