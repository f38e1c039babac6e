/* What this machine can do at best, without the project: peak of FMA and of dot products of bfloat16 and of int8 where the
 * processor has them, reading and triad bandwidth, and BLIS alone.
 *
 *     probe THREADS            one JSON object on stdout
 *     probe THREADS serve      reads "m n k times" lines, answers each with the seconds of BLIS' X W^T as a JSON list
 *
 * Compiled by machine.py; without BLIS (-DNO_BLIS) the GEMM part is left out. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SSE__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
enum { WIDTH = 16 };
#elif defined(__AVX__)
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif
typedef float vec __attribute__((vector_size(WIDTH * 4)));
enum { CHAINS = 12 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Products and sums of `rounds` dot products on each thread, in 1e9 a second: the best of three. */
#define DOT_PEAK(NAME, NUMBERS, TYPE, STEP)                                                   \
    static double NAME(int threads)                                                           \
    {                                                                                         \
        const long rounds = 3000000;                                                          \
        double best = 1e9;                                                                    \
        for (int attempt = 0; attempt < 3; attempt++) {                                       \
            double begin = omp_get_wtime();                                                   \
            _Pragma("omp parallel num_threads(threads)")                                      \
            {                                                                                 \
                TYPE x[CHAINS];                                                               \
                __m512i a = _mm512_set1_epi32(0x3c003c00), b = _mm512_set1_epi32(0x3c013c01); \
                for (int c = 0; c < CHAINS; c++)                                              \
                    x[c] = (TYPE)_mm512_setzero_si512();                                      \
                for (long r = 0; r < rounds; r++)                                             \
                    for (int c = 0; c < CHAINS; c++) {                                        \
                        TYPE next = STEP; /* asm on x[c] itself would keep x in memory */     \
                        __asm__ volatile("" : "+v"(next));                                    \
                        x[c] = next;                                                          \
                    }                                                                         \
            }                                                                                 \
            double seconds = omp_get_wtime() - begin;                                         \
            best = seconds < best ? seconds : best;                                           \
        }                                                                                     \
        return 2.0 * NUMBERS * CHAINS * (double)rounds * threads / best * 1e-9;               \
    }

#ifdef __AVX512BF16__
DOT_PEAK(bfloat16_gflops, 32, __m512, _mm512_dpbf16_ps(x[c], (__m512bh)a, (__m512bh)b))
#endif
#ifdef __AVX512VNNI__
DOT_PEAK(int8_gops, 64, __m512i, _mm512_dpbusd_epi32(x[c], a, b))
#endif

static double fma_gflops(int threads)
{
    const long rounds = 40000000 / WIDTH;
    double best = 1e9, sink = 0.0;
    for (int attempt = 0; attempt < 3; attempt++) {
        double begin = omp_get_wtime();
#pragma omp parallel num_threads(threads) reduction(+ : sink)
        {
            vec x[CHAINS], a = {0}, b = {0};
            for (int i = 0; i < WIDTH; i++)
                a[i] = 0.999f, b[i] = 1e-3f * (float)i;
            for (int c = 0; c < CHAINS; c++)
                x[c] = a * (float)c;
            for (long r = 0; r < rounds; r++)
#pragma GCC unroll 12
                for (int c = 0; c < CHAINS; c++)
                    x[c] = x[c] * a + b;
            for (int c = 0; c < CHAINS; c++)
                sink += x[c][0];
        }
        double seconds = omp_get_wtime() - begin;
        best = seconds < best ? seconds : best;
    }
    if (sink == 0.123)
        puts("");
    return 2.0 * WIDTH * CHAINS * (double)rounds * threads / best * 1e-9;
}

static void stream(float *to, vec value)
{
#if defined(__AVX512F__)
    _mm512_stream_ps(to, (__m512)value);
#elif defined(__AVX__)
    _mm256_stream_ps(to, (__m256)value);
#elif defined(__SSE__)
    _mm_stream_ps(to, (__m128)value);
#else
    *(vec *)to = value;
#endif
}

/* GB/s of reading one array, and of a = b + s c with streaming stores */
static void bandwidth(int threads, double *read, double *triad)
{
    const size_t n = (size_t)64 << 20;
    float *a = aligned_alloc(64, n * sizeof *a), *b = aligned_alloc(64, n * sizeof *b),
          *c = aligned_alloc(64, n * sizeof *c);
    double best_read = 1e9, best_triad = 1e9, sink = 0.0;
    if (!a || !b || !c)
        exit(1);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        a[i] = b[i] = c[i] = (float)(i & 7);
    for (int attempt = 0; attempt < 5; attempt++) {
        double begin = omp_get_wtime();
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : sink)
        for (size_t i = 0; i < n; i += 8 * WIDTH) {
            vec sum = {0};
            for (size_t j = 0; j < 8 * WIDTH; j += WIDTH)
                sum += *(const vec *)(b + i + j);
            sink += sum[0];
        }
        double middle = omp_get_wtime();
#pragma omp parallel for num_threads(threads) schedule(static)
        for (size_t i = 0; i < n; i += WIDTH)
            stream(a + i, *(const vec *)(b + i) + 3.0f * *(const vec *)(c + i));
        double end = omp_get_wtime();
        best_read = middle - begin < best_read ? middle - begin : best_read;
        best_triad = end - middle < best_triad ? end - middle : best_triad;
    }
    *read = (double)n * 4 / best_read * 1e-9 + (sink == 0.123);
    *triad = (double)n * 12 / best_triad * 1e-9;
    free(a), free(b), free(c);
}

#ifndef NO_BLIS
#include <blis.h>

/* seconds [times] of y[m,n] = x[m,k] W[n,k]^T; the buffers are kept for the next call of the same size */
static void blis_linear(int threads, long m, long n, long k, int times, double *seconds)
{
    static float *x, *w, *y;
    static long size[3];
    rntm_t runtime;
    float one = 1.0f, zero = 0.0f;
    if (size[0] != m || size[1] != n || size[2] != k) {
        free(x), free(w), free(y);
        x = malloc((size_t)(m * k) * 4), w = malloc((size_t)(n * k) * 4), y = malloc((size_t)(m * n) * 4);
        if (!x || !w || !y)
            exit(1);
        for (long i = 0; i < m * k; i++)
            x[i] = (float)(i % 17) - 8;
        for (long i = 0; i < n * k; i++)
            w[i] = (float)(i % 13) - 6;
        memset(y, 0, (size_t)(m * n) * 4);
        size[0] = m, size[1] = n, size[2] = k;
    }
    bli_rntm_init(&runtime);
    bli_rntm_set_num_threads(threads, &runtime);
    for (int t = 0; t < times; t++) {
        double begin = omp_get_wtime();
        bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, k, &one, x, k, 1, w, 1, k, &zero, y, n, 1, NULL,
                     &runtime);
        seconds[t] = omp_get_wtime() - begin;
    }
}
#else
static void blis_linear(int threads, long m, long n, long k, int times, double *seconds)
{
    (void)threads, (void)m, (void)n, (void)k;
    memset(seconds, 0, (size_t)times * sizeof *seconds);
}
#endif

int main(int count, char **arguments)
{
    enum { MOST = 64 };
    int threads = count > 1 ? atoi(arguments[1]) : 1, times;
    long m, n, k;
    double seconds[MOST], read, triad;
    if (count > 2 && !strcmp(arguments[2], "serve")) {
        while (scanf("%ld %ld %ld %d", &m, &n, &k, &times) == 4 && times > 0 && times <= MOST) {
            blis_linear(threads, m, n, k, times, seconds);
            for (int t = 0; t < times; t++)
                printf("%s%.9f", t ? ", " : "[", seconds[t]);
            puts("]");
            fflush(stdout);
        }
        return 0;
    }
    bandwidth(threads, &read, &triad);
    printf("{\"fma_gflops_1\": %.1f, \"fma_gflops\": %.1f, \"read_gbs\": %.1f, \"triad_gbs\": %.1f", fma_gflops(1),
           fma_gflops(threads), read, triad);
#ifdef __AVX512BF16__
    printf(", \"bfloat16_gflops_1\": %.1f, \"bfloat16_gflops\": %.1f", bfloat16_gflops(1), bfloat16_gflops(threads));
#endif
#ifdef __AVX512VNNI__
    printf(", \"int8_gops_1\": %.1f, \"int8_gops\": %.1f", int8_gops(1), int8_gops(threads));
#endif
#ifndef NO_BLIS
    blis_linear(threads, 2048, 2048, 2048, 7, seconds);
    qsort(seconds, 7, sizeof *seconds, by_value);
    printf(", \"gemm_gflops\": %.1f, \"blis\": \"%s\", \"blis_kernels\": \"%s\"",
           2e-9 * 2048 * 2048 * 2048 / seconds[3], bli_info_get_version_str(), bli_arch_string(bli_arch_query_id()));
#else
    (void)by_value;
#endif
    puts("}");
    return 0;
}
