/* The losses of tables, for steps.h: columns of several kinds, of which values may be missing (NaN). */

/* The squared error of n numbers, Huber's beyond `delta`; slopes of what is known, 0 of the rest. */
static double NAME(numbers)(const REAL *raw, const REAL *given, REAL *slope, int64_t n, REAL delta)
{
    Vector sums = {0}, zero = {0}, high = zero + delta;
    double told = 0;
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        Vector x = *(const Vector *)(given + j), off = *(const Vector *)(raw + j) - x;
        off = NAME(chosen)(x == x, off, zero);
        Vector kept = NAME(chosen)(off > high, high, NAME(chosen)(off < -high, -high, off));
        sums += kept * (2 * off - kept);
        *(Vector *)(slope + j) = 2 * kept;
    }
    for (int64_t lane = 0; lane < LANES; lane++)
        told += sums[lane];
    for (; j < n; j++) {
        REAL off = given[j] == given[j] ? raw[j] - given[j] : 0;
        REAL kept = off > delta ? delta : off < -delta ? -delta : off;
        told += kept * (2 * off - kept);
        slope[j] = 2 * kept;
    }
    return told;
}

/* The cross-entropy of n truths, whose outputs are logits; max(z, 0) - z y + log(1 + exp(-|z|)). The
 * logarithms are those of products, each of as many numbers between 1 and 2 as have room. */
static double NAME(truths)(const REAL *raw, const REAL *given, REAL *slope, int64_t n, const REAL *scale)
{
    enum { ROOM = 64 };
    Vector sums = {0}, zero = {0}, one = zero + 1;
    double told = 0;
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
            *(Vector *)(slope + j) = NAME(chosen)(known, likely - y, zero);
        }
        for (int64_t lane = 0; lane < LANES; lane++)
            told += log(products[lane]);
    }
    for (int64_t lane = 0; lane < LANES; lane++)
        told += sums[lane];
    for (; j < n; j++) {
        double z = raw[j], y = given[j] * scale[j], small = exp(-fabs(z));
        int known = given[j] == given[j];
        told += known ? (z > 0 ? z : 0) - z * y + log1p(small) : 0;
        slope[j] = (REAL)(known ? (z >= 0 ? 1 : small) / (1 + small) - y : 0);
    }
    return told;
}

/* The cross-entropy of a category of n levels, of whose outputs less their largest `slope` has the
 * exponentials. What is missing has no level, and so neither error nor slope. */
static double NAME(levels)(const REAL *raw, const REAL *given, REAL *slope, int64_t n, const REAL *scale)
{
    double total = 0, all = 0, told = 0;
    REAL largest = raw[0];
    for (int64_t j = 0; j < n; j++) {
        total += slope[j];
        all += given[j] == given[j] ? given[j] * scale[j] : 0;
        largest = raw[j] > largest ? raw[j] : largest;
    }
    double base = (double)largest + log(total);
    for (int64_t j = 0; j < n; j++) {
        double y = given[j] == given[j] ? given[j] * scale[j] : 0;
        told += y ? y * (base - raw[j]) : 0;
        slope[j] = (REAL)(slope[j] / total * all - y);
    }
    return told;
}

/* exp(z - the largest of its category) for all levels of a row, in the place of their slopes. */
static void NAME(likelihoods)(const Table *table, const REAL *raw, REAL *slope, int64_t wide)
{
    for (const Column *column = table->columns; column < table->columns + table->count; column++) {
        const REAL *z = raw + column->start;
        REAL largest = z[0];
        for (int64_t j = 1; j < column->size && column->kind == LEVELS; j++)
            largest = z[j] > largest ? z[j] : largest;
        for (int64_t j = 0; j < column->size; j++)
            slope[column->start + j] = column->kind == LEVELS ? z[j] - largest : 0;
    }
    for (int64_t j = 0; j < wide; j += LANES)
        *(Vector *)(slope + j) = NAME(exponential)(*(const Vector *)(slope + j));
}

/* A row cut off where outputs end, in its own place. */
static void NAME(cut)(REAL *raw, const REAL *ends, int64_t width, REAL leak)
{
    for (int64_t j = 0; j < width; j++) {
        REAL low = ends[j], high = ends[width + j], kept = raw[j] < low ? low : raw[j];
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
    return known > table->least ? known : table->least;
}

/* The loss of a part of a batch of `all` rows, the mean over rows of the mean over known columns; its
 * slope in the last layer is left. */
static double NAME(judge_columns)(const Run *run, const Table *table, const REAL *ends, REAL leak, int64_t rows,
                                  int64_t all)
{
    const Layer *layer = run->layers + run->count - 1;
    int64_t last = layer->target, width = layer->outs, wide = PADDED(width);
    const REAL *scale = table->features, *weight = scale + width;
    double told = 0;
    for (int64_t i = 0; i < rows; i++) {
        REAL *raw = run->before[last] + i * wide, *slope = run->ahead[last] + i * wide;
        const REAL *given = run->given + i * wide;
        double each = run->weight[i] / ((double)all * NAME(known)(table, given, width)), lost = 0;
        if (ends)
            NAME(cut)(raw, ends, width, leak);
        if (table->has_levels)
            NAME(likelihoods)(table, raw, slope, wide);
        for (const Column *column = table->columns; column < table->columns + table->count; column++) {
            int64_t at = column->start, n = column->size;
            const REAL *z = raw + at, *x = given + at;
            REAL *s = slope + at, factor = column->kind == NUMBERS ? 1 : weight[at];
            lost += factor * (column->kind == NUMBERS ? NAME(numbers)(z, x, s, n, (REAL)table->delta)
                              : column->kind == TRUTHS ? NAME(truths)(z, x, s, n, scale + at)
                                                       : NAME(levels)(z, x, s, n, scale + at));
            for (int64_t j = 0; j < n; j++) /* beyond an end a slope leaks, as its output has */
                s[j] *= (REAL)each * factor * (ends && (z[j] < ends[at + j] || z[j] > ends[width + at + j]) ? leak : 1);
        }
        for (int64_t j = width; j < wide; j++)
            slope[j] = 0;
        told += lost * each;
    }
    return told;
}

/* What stands in for missing values, in a part of a batch; and on the way back, its slopes. */
static void NAME(complete)(const Run *run, const Table *table, int64_t rows, int64_t width)
{
    const REAL *stand_in = run->values + table->stand_in;
    int64_t wide = PADDED(width);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j++) {
            REAL x = run->given[i * wide + j];
            run->after[0][i * wide + j] = table->stand_in < 0 || x == x ? x : stand_in[j];
        }
}

static void NAME(completed_back)(const Run *run, const Table *table, int64_t rows, int64_t width)
{
    REAL *slope = run->slopes + table->stand_in;
    int64_t wide = PADDED(width);
    memset(slope, 0, width * sizeof(REAL));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j++) {
            REAL x = run->given[i * wide + j];
            slope[j] += x == x ? 0 : run->ahead[0][i * wide + j];
        }
}
