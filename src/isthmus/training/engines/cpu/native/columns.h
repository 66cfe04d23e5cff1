/* The losses of tables, for steps.h: columns of several kinds, in which values may be missing (NaN). */

/* The squared error of n numbers, or Huber's loss beyond `delta`; the gradient of missing values is 0. */
static double NAME(numbers)(const REAL *raw, const REAL *inputs, REAL *grad, int64_t n, REAL delta)
{
    Vector sums = {0}, zero = {0}, high = zero + delta;
    double losses = 0;
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        Vector x = *(const Vector *)(inputs + j), residual = *(const Vector *)(raw + j) - x;
        residual = NAME(select)(x == x, residual, zero);
        Vector clipped = NAME(select)(residual > high, high, NAME(select)(residual < -high, -high, residual));
        sums += clipped * (2 * residual - clipped);
        *(Vector *)(grad + j) = 2 * clipped;
    }
    for (int64_t lane = 0; lane < LANES; lane++)
        losses += sums[lane];
    for (; j < n; j++) {
        REAL residual = inputs[j] == inputs[j] ? raw[j] - inputs[j] : 0;
        REAL clipped = residual > delta ? delta : residual < -delta ? -delta : residual;
        losses += clipped * (2 * residual - clipped);
        grad[j] = 2 * clipped;
    }
    return losses;
}

/* The cross-entropy of n booleans with logits z: max(z, 0) - z y + log(1 + exp(-|z|)). One logarithm is
 * taken of the product of up to ROOM factors between 1 and 2, which cannot overflow. */
static double NAME(booleans)(const REAL *raw, const REAL *inputs, REAL *grad, int64_t n, const REAL *scale)
{
    enum { ROOM = 64 };
    Vector sums = {0}, zero = {0}, one = zero + 1;
    double losses = 0;
    int64_t j = 0;
    while (j + LANES <= n) {
        Vector products = one;
        for (int64_t k = 0; k < ROOM && j + LANES <= n; k++, j += LANES) {
            Vector z = *(const Vector *)(raw + j), x = *(const Vector *)(inputs + j);
            Bits known = x == x, above = z >= zero;
            Vector y = x * *(const Vector *)(scale + j), small = NAME(exponential)(NAME(select)(above, -z, z));
            Vector loss = NAME(select)(above, z, zero) - z * y;
            Vector probability = NAME(select)(above, one, small) / (1 + small);
            sums += NAME(select)(known, loss, zero);
            products *= NAME(select)(known, 1 + small, one);
            *(Vector *)(grad + j) = NAME(select)(known, probability - y, zero);
        }
        for (int64_t lane = 0; lane < LANES; lane++)
            losses += log(products[lane]);
    }
    for (int64_t lane = 0; lane < LANES; lane++)
        losses += sums[lane];
    for (; j < n; j++) {
        double z = raw[j], y = inputs[j] * scale[j], small = exp(-fabs(z));
        int known = inputs[j] == inputs[j];
        losses += known ? (z > 0 ? z : 0) - z * y + log1p(small) : 0;
        grad[j] = (REAL)(known ? (z >= 0 ? 1 : small) / (1 + small) - y : 0);
    }
    return losses;
}

/* The cross-entropy of a column of n categories. On entry `grad` holds exp(z - the largest z). A missing
 * value has no category, so its error and gradient are 0. */
static double NAME(categories)(const REAL *raw, const REAL *inputs, REAL *grad, int64_t n, const REAL *scale)
{
    double total = 0, all = 0, losses = 0;
    REAL largest = raw[0];
    for (int64_t j = 0; j < n; j++) {
        total += grad[j];
        all += inputs[j] == inputs[j] ? inputs[j] * scale[j] : 0;
        largest = raw[j] > largest ? raw[j] : largest;
    }
    double base = (double)largest + log(total);
    for (int64_t j = 0; j < n; j++) {
        double y = inputs[j] == inputs[j] ? inputs[j] * scale[j] : 0;
        losses += y ? y * (base - raw[j]) : 0;
        grad[j] = (REAL)(grad[j] / total * all - y);
    }
    return losses;
}

/* Write exp(z - the largest z of the column) for all categories of a row to `grad`. */
static void NAME(exponentials)(const Table *table, const REAL *raw, REAL *grad, int64_t wide)
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

/* Clip a row of outputs to its bounds, in place. */
static void NAME(clip)(REAL *raw, const REAL *bounds, int64_t width, REAL leak)
{
    for (int64_t j = 0; j < width; j++) {
        REAL low = bounds[j], high = bounds[width + j], clipped = raw[j] < low ? low : raw[j];
        clipped = clipped > high ? high : clipped;
        raw[j] = clipped + leak * (raw[j] - clipped);
    }
}

/* The number of columns of a row that are not missing, at least `min_columns`. */
static double NAME(count_known)(const Table *table, const REAL *inputs, int64_t width)
{
    const REAL *share = (const REAL *)table->features + 2 * width;
    REAL known = 0;
    for (int64_t j = 0; j < width; j++)
        known += inputs[j] == inputs[j] ? share[j] : 0;
    return known > table->min_columns ? known : table->min_columns;
}

/* The loss of a part of a batch of `all` rows: the mean over rows of the mean over present columns.
 * Writes its gradient in the last layer. */
static double NAME(table_loss)(const Run *run, const Table *table, const REAL *bounds, REAL leak, int64_t rows,
                                  int64_t all)
{
    const Layer *layer = run->layers + run->count - 1;
    int64_t last = layer->target, width = layer->n_outputs, wide = PADDED(width);
    const REAL *scale = table->features, *weight = scale + width;
    double losses = 0;
    for (int64_t i = 0; i < rows; i++) {
        REAL *raw = run->before[last] + i * wide, *grad = run->ahead[last] + i * wide;
        const REAL *inputs = run->inputs + i * wide;
        double each = run->weight[i] / ((double)all * NAME(count_known)(table, inputs, width)), loss = 0;
        if (bounds)
            NAME(clip)(raw, bounds, width, leak);
        if (table->has_categories)
            NAME(exponentials)(table, raw, grad, wide);
        for (const Column *column = table->columns; column < table->columns + table->count; column++) {
            int64_t start = column->start, n = column->size;
            const REAL *z = raw + start, *x = inputs + start;
            REAL *s = grad + start, factor = column->kind == NUMBERS ? 1 : weight[start];
            loss += factor * (column->kind == NUMBERS ? NAME(numbers)(z, x, s, n, (REAL)table->delta)
                              : column->kind == BOOLEANS ? NAME(booleans)(z, x, s, n, scale + start)
                                                       : NAME(categories)(z, x, s, n, scale + start));
            for (int64_t j = 0; j < n; j++) /* outside the bounds the gradient leaks, as the output does */
                s[j] *= (REAL)each * factor * (bounds && (z[j] < bounds[start + j] || z[j] > bounds[width + start + j]) ? leak : 1);
        }
        for (int64_t j = width; j < wide; j++)
            grad[j] = 0;
        losses += loss * each;
    }
    return losses;
}

/* Replace the missing values of a part of a batch by the learned fill values, if there are any. */
static void NAME(fill_missing)(const Run *run, const Table *table, int64_t rows, int64_t width)
{
    const REAL *fill_value = run->values + table->fill_value;
    int64_t wide = PADDED(width);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j++) {
            REAL x = run->inputs[i * wide + j];
            run->after[0][i * wide + j] = table->fill_value < 0 || x == x ? x : fill_value[j];
        }
}

/* The gradient in the fill values. */
static void NAME(fill_value_grad)(const Run *run, const Table *table, int64_t rows, int64_t width)
{
    REAL *grad = run->grads + table->fill_value;
    int64_t wide = PADDED(width);
    memset(grad, 0, width * sizeof(REAL));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j++) {
            REAL x = run->inputs[i * wide + j];
            grad[j] += x == x ? 0 : run->ahead[0][i * wide + j];
        }
}
