/* What tests of operations share: arrays that are dropped together, EXERCISE and CHECK_SLOPE. */
#ifndef HA_TEST_ARRAYS_H
#define HA_TEST_ARRAYS_H

#include <stdint.h>
#include <stdlib.h>

#include "check.h"
#include "hybridattn.h"

static ha_arena arena;

/* --- arrays: one malloc each, so that the sanitizer watches them to the byte; dropped together after a test --- */

static void *kept[512];
static int n_kept;

static inline void *keep(void *block)
{
    return kept[n_kept++] = block;
}

static inline void drop(void)
{
    while (n_kept)
        free(kept[--n_kept]);
}

static inline float *zeros(size_t n)
{
    return keep(calloc(n ? n : 1, sizeof(float)));
}

/* n numbers in [-scale, scale) */
static inline float *numbers(size_t n, double scale)
{
    static uint64_t seed = 1;
    ha_rng rng = ha_rng_seed(seed++);
    float *x = zeros(n);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * (2.0 * ha_rng_uniform(&rng) - 1.0));
    return x;
}

static inline float *copy(const float *x, size_t n)
{
    return memcpy(zeros(n), x, n * sizeof *x);
}

/* Columns from .. from + width of x [rows, ld], without gaps and in double, for ref/. */
static inline double *columns(const float *x, int rows, int ld, int from, int width)
{
    double *y = keep(malloc((size_t)(rows * width) * sizeof *y));
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < width; i++)
            y[r * width + i] = (double)x[r * ld + from + i];
    return y;
}

static inline double *wide(const float *x, size_t n)
{
    return columns(x, 1, (int)n, 0, (int)n);
}

static inline void check_close(const float *got, const double *want, size_t n, const char *name, int line)
{
    float *x = zeros(n);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)want[i];
    check_all_close(got, x, n, 2e-5, name, __FILE__, line);
}

#define CHECK_TWIN(got, want, n) check_close(got, want, n, #got, __LINE__)

/* --- one operation --- */

/* An output array. The operation overwrites it, or adds to it. */
typedef struct {
    float *x;
    size_t n;
    int adds;
} span;

/* Overwritten outputs start as NaN: a place that was forgotten shows. */
static inline void prepare(const span *out, int n)
{
    for (int i = 0; i < n; i++)
        for (size_t j = 0; j < out[i].n; j++)
            out[i].x[j] = out[i].adds ? 0.0f : NAN;
}

/* Runs `call` (a status) with outputs {x, n, adds}, ...: full arenas are refused, a run leaves the arena empty and fills
 * its outputs with numbers, and two threads give the bits of one. */
#define EXERCISE(call, ...)                                                              \
    do {                                                                                 \
        const span out_[] = {__VA_ARGS__};                                               \
        const int n_ = sizeof out_ / sizeof *out_;                                       \
        float *once_[sizeof out_ / sizeof *out_];                                        \
        ha_set_threads(1);                                                               \
        prepare(out_, n_);                                                               \
        CHECK_INT(call, HA_OK);                                                          \
        for (int i_ = 0; i_ < n_; i_++) {                                                \
            once_[i_] = zeros(out_[i_].n);                                               \
            memcpy(once_[i_], out_[i_].x, out_[i_].n * sizeof(float));                   \
        }                                                                                \
        ha_set_threads(2);                                                               \
        arena.peak = 0;                                                                  \
        prepare(out_, n_);                                                               \
        CHECK_INT(call, HA_OK);                                                          \
        CHECK_INT(arena.used, 0);                                                        \
        for (int i_ = 0; i_ < n_; i_++) {                                                \
            CHECK_SAME(once_[i_], out_[i_].x, out_[i_].n);                               \
            for (size_t j_ = 0; j_ < out_[i_].n; j_++)                                   \
                if (!isfinite(out_[i_].x[j_])) {                                         \
                    CHECK_FAIL("output %d of %s: [%zu] is not a number", i_, #call, j_); \
                    break;                                                               \
                }                                                                        \
        }                                                                                \
        const size_t size_ = arena.size, need_ = arena.peak;                             \
        for (size_t part_ = 0; need_ && part_ <= 8; part_++) {                           \
            arena.size = part_ < 8 ? need_ * part_ / 8 : need_ - 1;                      \
            CHECK_INT(call, HA_NO_MEMORY);                                               \
            CHECK(strstr(ha_error_message(), "use fewer or shorter sequences"));         \
            ha_arena_release(&arena, 0);                                                 \
        }                                                                                \
        arena.size = size_;                                                              \
        prepare(out_, n_);                                                               \
        CHECK_INT(call, HA_OK);                                                          \
    } while (0)

/* An operation without a status. */
#define VOID(call) ((call), HA_OK)

/* An output y and the gradient dy that reaches it. */
typedef struct {
    const float *y;
    size_t n;
    const float *dy;
} upstream;

static inline double loss_of(const upstream *u, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        for (size_t j = 0; j < u[i].n; j++)
            sum += (double)u[i].y[j] * (double)u[i].dy[j];
    return sum;
}

/* dx against the slope of the loss over upstreams {y, n, dy}, ... made by `call`, along a random direction with dx's signs:
 * every component then counts. */
#define CHECK_SLOPE(x, dx, n, call, ...)                                                   \
    do {                                                                                   \
        const upstream up_[] = {__VA_ARGS__};                                              \
        const size_t m_ = (n);                                                             \
        float *at_ = (x), *along_ = numbers(m_, 1), *start_ = zeros(m_);                   \
        double want_ = 0.0, loss_[2];                                                      \
        memcpy(start_, at_, m_ * sizeof *at_);                                             \
        for (size_t i_ = 0; i_ < m_; i_++) {                                               \
            along_[i_] = copysignf(along_[i_], (dx)[i_]);                                  \
            want_ += (double)along_[i_] * (double)(dx)[i_];                                \
        }                                                                                  \
        for (int side_ = 0; side_ < 2; side_++) {                                          \
            for (size_t i_ = 0; i_ < m_; i_++)                                             \
                at_[i_] = start_[i_] + (side_ ? 1e-3f : -1e-3f) * along_[i_];              \
            CHECK_INT(call, HA_OK);                                                        \
            loss_[side_] = loss_of(up_, sizeof up_ / sizeof *up_);                         \
        }                                                                                  \
        memcpy(at_, start_, m_ * sizeof *at_);                                             \
        double got_ = (loss_[1] - loss_[0]) / 2e-3;                                        \
        if (!(want_ > 1e-2 && fabs(got_ - want_) <= 1e-2 * want_))                         \
            CHECK_FAIL("%s says a slope of %.6g, %s gives %.6g", #dx, want_, #call, got_); \
    } while (0)

#endif
