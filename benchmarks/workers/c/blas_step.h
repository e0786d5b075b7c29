/* blas.c's step and inference for one type, REAL. Y = X W + b, with W's transpose stored, p x n:
 * by both libraries' times the better layout of the two. */

static struct {
    int64_t q, n, p;
    int stride;
    REAL lr, loss;
    REAL *x, *y, *w, *b, *prediction, *grad_w, *grad_b; /* the residuals take the predictions' place */
} NAME(m);

static void (*NAME(gemm))(int order, int transpose_a, int transpose_b, int rows, int columns, int inner, REAL alpha,
                          const REAL *a, int a_stride, const REAL *b, int b_stride, REAL beta, REAL *c, int c_stride);
static void (*NAME(gemv))(int order, int transpose, int rows, int columns, REAL alpha, const REAL *a, int a_stride,
                          const REAL *x, int x_step, REAL beta, REAL *y, int y_step);
static void (*NAME(ger))(int order, int rows, int columns, REAL alpha, const REAL *x, int x_step, const REAL *y,
                         int y_step, REAL *a, int a_stride);

static bool NAME(open)(void) {
    return look_up(CBLAS("gemm"), &NAME(gemm)) && look_up(CBLAS("gemv"), &NAME(gemv)) &&
           look_up(CBLAS("ger"), &NAME(ger));
}

/* prediction = X W */
static void NAME(multiply)(void) {
    int q = (int)NAME(m).q, n = (int)NAME(m).n, p = (int)NAME(m).p;
    if (p == 1)
        NAME(gemv)(ROW_MAJOR, NO_TRANSPOSE, q, n, 1, NAME(m).x, NAME(m).stride, NAME(m).w, 1, 0, NAME(m).prediction, 1);
    else if (q == 1)
        NAME(gemv)(ROW_MAJOR, NO_TRANSPOSE, p, n, 1, NAME(m).w, n, NAME(m).x, 1, 0, NAME(m).prediction, 1);
    else
        NAME(gemm)(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, q, p, n, 1, NAME(m).x, NAME(m).stride, NAME(m).w, n, 0,
                   NAME(m).prediction, p);
}

/* grad_w = residuals^T X */
static void NAME(multiply_back)(void) {
    int q = (int)NAME(m).q, n = (int)NAME(m).n, p = (int)NAME(m).p;
    if (p == 1) {
        NAME(gemv)(ROW_MAJOR, TRANSPOSE, q, n, 1, NAME(m).x, NAME(m).stride, NAME(m).prediction, 1, 0, NAME(m).grad_w,
                   1);
    } else if (q == 1) {
        memset(NAME(m).grad_w, 0, (size_t)n * (size_t)p * sizeof(REAL));
        NAME(ger)(ROW_MAJOR, p, n, 1, NAME(m).prediction, 1, NAME(m).x, 1, NAME(m).grad_w, n);
    } else {
        NAME(gemm)(ROW_MAJOR, TRANSPOSE, NO_TRANSPOSE, p, n, q, 1, NAME(m).prediction, p, NAME(m).x, NAME(m).stride, 0,
                   NAME(m).grad_w, n);
    }
}

/* For rows first to end: prediction = (2/N) (prediction + b - y), its columns' sums added to grad_b; returns the sum of
 * the squares. */
static inline REAL NAME(residuals_of)(int64_t first, int64_t end, REAL *restrict grad_b) {
    int64_t p = NAME(m).p;
    REAL scale = (REAL)2 / (REAL)(NAME(m).q * p), total = 0;
    REAL *restrict prediction = NAME(m).prediction;
    const REAL *restrict y = NAME(m).y, *restrict b = NAME(m).b;
    if (p == 1) {
        REAL sum = 0, bias = b[0];
        for (int64_t i = first; i < end; i++) {
            REAL residual = prediction[i] + bias - y[i];
            total += residual * residual;
            sum += prediction[i] = scale * residual;
        }
        grad_b[0] += sum;
        return total;
    }
    for (int64_t i = first; i < end; i++) {
        for (int64_t k = 0; k < p; k++) {
            REAL residual = prediction[i * p + k] + b[k] - y[i * p + k];
            total += residual * residual;
            grad_b[k] += prediction[i * p + k] = scale * residual;
        }
    }
    return total;
}

static void NAME(residuals)(void) {
    int64_t q = NAME(m).q, p = NAME(m).p;
    REAL *grad_b = NAME(m).grad_b, total = 0;
    for (int64_t k = 0; k < p; k++) grad_b[k] = 0;
    if (threads == 1 || q * p < MANY) {
        total = NAME(residuals_of)(0, q, grad_b);
    } else {
#pragma omp parallel for reduction(+ : total, grad_b[:p]) num_threads(threads) schedule(static, 1)
        for (int part = 0; part < threads; part++)
            total += NAME(residuals_of)(q * part / threads, q * (part + 1) / threads, grad_b);
    }
    NAME(m).loss = total / (REAL)(q * p);
}

static void NAME(update)(REAL *restrict values, const REAL *restrict gradient, int64_t count) {
    REAL lr = NAME(m).lr;
    if (threads == 1 || count < MANY) {
        for (int64_t i = 0; i < count; i++) values[i] -= lr * gradient[i];
    } else {
#pragma omp parallel for simd num_threads(threads)
        for (int64_t i = 0; i < count; i++) values[i] -= lr * gradient[i];
    }
}

static void NAME(step)(void) {
    NAME(multiply)();
    NAME(residuals)();
    NAME(multiply_back)();
    NAME(update)(NAME(m).w, NAME(m).grad_w, NAME(m).n * NAME(m).p);
    NAME(update)(NAME(m).b, NAME(m).grad_b, NAME(m).p);
}

static void NAME(forward)(void) {
    NAME(multiply)();
    for (int64_t i = 0; i < NAME(m).q; i++)
        for (int64_t k = 0; k < NAME(m).p; k++) NAME(m).prediction[i * NAME(m).p + k] += NAME(m).b[k];
}

static double NAME(check_step)(void) { return NAME(m).loss; }

static double NAME(check_forward)(void) {
    int64_t count = NAME(m).q * NAME(m).p;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)NAME(m).prediction[i] * (double)NAME(m).prediction[i];
    return sum / (double)count;
}

static struct task NAME(setup)(const struct job *job) {
    bool wide = sizeof(REAL) == sizeof(double);
    int64_t q = job->q, n = job->widths[0], p = job->widths[1];
    NAME(m).q = q, NAME(m).n = n, NAME(m).p = p, NAME(m).stride = (int)job->stride, NAME(m).lr = (REAL)job->lr;
    NAME(m).x = pattern(wide, q, job->stride, 0, 1);
    NAME(m).y = pattern(wide, q, p, 1, 1);
    NAME(m).w = pattern(wide, p, n, 2, 1 / sqrt((double)n));
    NAME(m).b = zeros((size_t)p * sizeof(REAL));
    NAME(m).grad_w = zeros((size_t)(n * p) * sizeof(REAL));
    NAME(m).grad_b = zeros((size_t)p * sizeof(REAL));
    NAME(m).prediction = zeros((size_t)(q * p) * sizeof(REAL));
    return job->task[0] == 's' ? (struct task){NAME(step), NAME(check_step)}
                               : (struct task){NAME(forward), NAME(check_forward)};
}

static void NAME(free)(void) {
    free(NAME(m).x);
    free(NAME(m).y);
    free(NAME(m).w);
    free(NAME(m).b);
    free(NAME(m).grad_w);
    free(NAME(m).grad_b);
    free(NAME(m).prediction);
    memset(&NAME(m), 0, sizeof NAME(m));
}
