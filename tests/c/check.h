/* Tiny checks for the C tests. A test is a function, RUN(function) runs it; a check that fails prints file:line and the
 * values, and the test goes on. End main with `return REPORT();`: it prints "N passed, N failed" for tests/c/Makefile.
 *
 *     static void adds(void) { CHECK_INT(1 + 1, 2); }
 *     int main(void) { RUN(adds); return REPORT(); }
 */
#ifndef HA_TEST_CHECK_H
#define HA_TEST_CHECK_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#if defined __SANITIZE_THREAD__
#define CHECK_UNDER_TSAN 1
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define CHECK_UNDER_TSAN 1 /* a test that forks has to leave itself out */
#endif
#endif
#ifndef CHECK_UNDER_TSAN
#define CHECK_UNDER_TSAN 0
#endif

#if defined __SANITIZE_ADDRESS__
#define CHECK_UNDER_ASAN 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define CHECK_UNDER_ASAN 1
#endif
#endif
#ifndef CHECK_UNDER_ASAN
#define CHECK_UNDER_ASAN 0
#endif

static int check_passed, check_failed, check_bad; /* tests, tests, failed checks of the running test */

#define CHECK_FAIL(...)                                 \
    do {                                                \
        check_bad++;                                    \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
        fprintf(stderr, __VA_ARGS__);                   \
        fputc('\n', stderr);                            \
    } while (0)

#define CHECK(condition)                       \
    do {                                       \
        if (!(condition))                      \
            CHECK_FAIL("not: %s", #condition); \
    } while (0)

#define CHECK_INT(got, want)                                            \
    do {                                                                \
        long long got_ = (got), want_ = (want);                         \
        if (got_ != want_)                                              \
            CHECK_FAIL("%s is %lld, expected %lld", #got, got_, want_); \
    } while (0)

#define CHECK_STR(got, want)                                                \
    do {                                                                    \
        const char *got_ = (got), *want_ = (want);                          \
        if (strcmp(got_, want_) != 0)                                       \
            CHECK_FAIL("%s is \"%s\", expected \"%s\"", #got, got_, want_); \
    } while (0)

/* |got - want| <= tolerance * max(1, |want|); NaN fails */
#define CHECK_CLOSE(got, want, tolerance)                                                              \
    do {                                                                                               \
        double got_ = (got), want_ = (want);                                                           \
        if (!(fabs(got_ - want_) <= (tolerance)*fmax(1.0, fabs(want_))))                               \
            CHECK_FAIL("%s is %.9g, expected %.9g within %g", #got, got_, want_, (double)(tolerance)); \
    } while (0)

/* n floats each, the largest error named once */
#define CHECK_ALL_CLOSE(got, want, n, tolerance) check_all_close(got, want, n, tolerance, #got, __FILE__, __LINE__)

/* n items with equal bytes */
#define CHECK_SAME(a, b, n)                                        \
    do {                                                           \
        if (memcmp((a), (b), (size_t)(n) * sizeof *(a)) != 0)      \
            CHECK_FAIL("%s and %s differ in their bytes", #a, #b); \
    } while (0)

#define RUN(test)                                                        \
    do {                                                                 \
        check_bad = 0;                                                   \
        test();                                                          \
        if (check_bad)                                                   \
            fprintf(stderr, "FAILED %s: %d checks\n", #test, check_bad); \
        check_bad ? check_failed++ : check_passed++;                     \
    } while (0)

#define REPORT() check_report(__FILE__)

static inline void check_all_close(const float *got, const float *want, size_t n, double tolerance, const char *name,
                                   const char *file, int line)
{
    size_t worst = 0;
    double most = -1;
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)got[i] - want[i]) / fmax(1.0, fabs(want[i]));
        if (!(error <= most)) {
            worst = i;
            most = error;
            if (isnan(error))
                break;
        }
    }
    if (n && !(most <= tolerance)) {
        check_bad++;
        fprintf(stderr, "%s:%d: %s[%zu] is %.9g, expected %.9g: error %.3g, allowed %g\n", file, line, name, worst,
                got[worst], want[worst], most, tolerance);
    }
}

static inline int check_report(const char *file)
{
    printf("%s: %d passed, %d failed\n", file, check_passed, check_failed);
    return check_failed != 0;
}

#endif
