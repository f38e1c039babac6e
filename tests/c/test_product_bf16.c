/* Products of bfloat16: every kernel gives the bits of VDPBF16PS as the manual writes it, one number at a time; and those
 * of any shape, layout, storage type and number of threads. */
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/product.h"
#include "products.h"

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float flushed(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

/* To the nearest bfloat16, of two equally near ones the even one. */
static float nearest(float x)
{
    const uint32_t bits = to_bits(x);
    if (isnan(x))
        return x;
    if (fabsf(x) < 0x1p-126f)
        return copysignf(0.0f, x);
    const uint32_t low = bits & 0xffff, down = bits & 0xffff0000;
    return from_bits(low > 0x8000 || (low == 0x8000 && down & 0x10000) ? down + 0x10000 : down);
}

static float add_pair(float sum, float a0, float b0, float a1, float b1)
{
    sum = flushed(fmaf(a1, b1, sum));
    return flushed(fmaf(a0, b0, sum));
}

static int same(float a, float b)
{
    return to_bits(a) == to_bits(b) || (isnan(a) && isnan(b));
}

enum { M = 29, N = 71, LDC = N + 3 };

/* One kernel on one block of packed operands; layout bit 0: numbers of a row of A lie apart, bit 1: those of a column of B */
static void one_kernel(const ha_packed_kernels *kernel, int k, int layout, const float *a, const float *b, float *c)
{
    const int items = (k + kernel->together - 1) / kernel->together * kernel->together / kernel->numbers;
    const int down = (M + kernel->rows - 1) / kernel->rows, across = (N + kernel->columns - 1) / kernel->columns;
    float *left = aligned_alloc(64, (size_t)(down * kernel->rows * items * 4 + 63) / 64 * 64);
    float *right = aligned_alloc(64, (size_t)(across * kernel->columns * items * 4 + 63) / 64 * 64);
    const ha_lines rows = {HA_F32, a, layout & 1 ? 1 : k, layout & 1 ? M : 1};
    const ha_lines columns = {HA_F32, b, layout & 2 ? 1 : k, layout & 2 ? N : 1};
    kernel->pack_rows(M, k, rows, left, kernel->rows * items);
    kernel->pack_columns(N, k, columns, right, kernel->columns * items);
    kernel->product((ha_matmul){M, N, items, -0.75f, 1}, left, right, layout & 1, ha_rows_to(c, LDC));
    free(left);
    free(right);
}

static float number_at(const float *x, int lines, int k, int apart, int line, int p)
{
    return nearest(apart ? x[p * lines + line] : x[line * k + p]);
}

static void check_kernels(int k, int layout, int spread)
{
    const ha_packed_kernels *kernels[HA_BF16_KERNELS];
    const int n = ha_bf16_each(kernels);
    float *a = numbers((size_t)(M * k), spread, 1), *b = numbers((size_t)(N * k), spread, 2);
    float *before = numbers(M * LDC, spread, 3), *c = malloc(sizeof *c * M * LDC);
    if (spread > 100 && k > 8) {
        a[3] = INFINITY, a[5] = NAN, a[7] = from_bits(0x7f800001), b[2] = -INFINITY, b[4] = 0.0f;
        a[k + 1] = 0x1p-127f, a[k + 2] = 0x1p127f, b[6] = 0x1.ffp127f, a[2] = from_bits(0x3f808000);
    }
    for (int i = 0; i < n; i++) {
        if (spread > 100 && strcmp(ha_kernels_get()->isa, "generic") && i == 0)
            continue; /* without FMA a product below 2^-126 is lost before it is added */
        memcpy(c, before, sizeof *c * M * LDC);
        one_kernel(kernels[i], k, layout, a, b, c);
        int wrong = 0;
        for (int row = 0; row < M; row++)
            for (int column = 0; column < LDC; column++) {
                float wanted = before[row * LDC + column], sum = 0.0f;
                for (int p = 0; p < k && column < N; p += 2)
                    sum =
                        add_pair(sum, number_at(a, M, k, layout & 1, row, p), number_at(b, N, k, layout & 2, column, p),
                                 p + 1 < k ? number_at(a, M, k, layout & 1, row, p + 1) : 0.0f,
                                 p + 1 < k ? number_at(b, N, k, layout & 2, column, p + 1) : 0.0f);
                if (column < N)
                    wanted = flushed(flushed(wanted) + flushed(-0.75f * sum));
                wrong += !same(c[row * LDC + column], wanted);
            }
        CHECK(wrong == 0);
    }
    free(a);
    free(b);
    free(before);
    free(c);
}

static void all_kernels(void)
{
    static const int depths[] = {1, 2, 3, 16, 17, 31, 64, 65, 130, 321};
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++)
        for (int layout = 0; layout < 4; layout++) {
            check_kernels(depths[i], layout, 6);
            check_kernels(depths[i], layout, 250);
        }
}

/* The whole product against sums in double of rounded numbers, and the same bits for any number of threads. */
static void one(int m, int n, int k, int layout, ha_dtype type, float scale, int accumulate)
{
    const int ldc = n + 5;
    const size_t size = (size_t)m * (size_t)ldc, bytes = ha_dtype_bytes(type, (size_t)n * (size_t)k);
    float *a = numbers((size_t)m * (size_t)k, 2, 1), *b = numbers((size_t)n * (size_t)k, 2, 2);
    float *before = numbers(size, 2, 3), *c = malloc(size * sizeof *c), *again = malloc(size * sizeof *c);
    void *stored = malloc(bytes);
    if (type == HA_F32)
        memcpy(stored, b, bytes);
    else
        ha_from_f32(type, b, stored, (size_t)n * (size_t)k);
    ha_kernels_get()->decode[type]((size_t)n * (size_t)k, stored, b);
    const ha_matmul product = {m, n, k, scale, accumulate};
    const ha_view left = layout & 1 ? ha_view_transposed(ha_rows_of(a, m)) : ha_view_rows(ha_rows_of(a, k));
    const ha_stored_view right = {type, stored, layout & 2 ? 1 : n, layout & 2 ? k : 1};
    for (int threads = 1; threads <= 8; threads = threads < 4 ? threads + 1 : 2 * threads) {
        float *to = threads == 1 ? c : again;
        memcpy(to, before, size * sizeof *to);
        ha_set_threads(threads);
        ha_product_bf16(product, left, right, ha_rows_to(to, ldc));
        CHECK(threads == 1 || memcmp(c, again, size * sizeof *c) == 0);
    }
    const c_of_product sums = {before, c, ldc};
    compare_product(product, left, (ha_view){b, right.row, right.column}, sums, nearest, 2e-5);
    compare_between(product, sums);
    free(a);
    free(b);
    free(before);
    free(c);
    free(again);
    free(stored);
}

static void all_layouts(void)
{
    static const int shapes[][3] = {{17, 1, 1},     {97, 33, 7},    {100, 31, 641}, {144, 64, 640}, {145, 65, 1300},
                                    {300, 97, 576}, {97, 500, 129}, {577, 96, 8},   {3, 200, 70},   {96, 96, 96}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int layout = 0; layout < 4; layout++) {
            one(shapes[i][0], shapes[i][1], shapes[i][2], layout, HA_F32, 1.0f, 0);
            one(shapes[i][0], shapes[i][1], shapes[i][2], layout, HA_BF16, -0.75f, 1);
            one(shapes[i][0], shapes[i][1], shapes[i][2], layout, HA_F16, 1.0f, 1);
        }
}

static void block_types(void)
{
    for (ha_dtype type = HA_Q8_0; type < HA_DTYPE_COUNT; type++)
        for (int layout = 0; layout < 4; layout++) {
            one(33, 96, 608, layout, type, 1.0f, 0);
            one(130, 320, 1312, layout, type, -0.75f, 1);
        }
}

/* More than the shared operand's room holds: several parts of its lines, of k, of both. */
static void large_operands(void)
{
    one(100, 7000, 650, 2, HA_F32, 1.0f, 1);
    one(7000, 100, 650, 0, HA_BF16, 1.0f, 0);
    one(120, 130, 60000, 0, HA_F32, 1.0f, 1);
    one(120, 160, 60000, 2, HA_Q8_0, 1.0f, 0);
    one(6800, 6700, 20, 2, HA_F32, 1.0f, 0);
}

static void nothing_to_do(void)
{
    float c[4] = {1, 2, 3, 4};
    const ha_view a = ha_view_rows(ha_rows_of(c, 3));
    const ha_stored_view b = ha_view_stored(ha_view_rows(ha_rows_of(c, 2)));
    ha_product_bf16(ha_matmul_of(0, 2, 3, 0), a, b, ha_rows_to(c, 2));
    ha_product_bf16(ha_matmul_of(2, 0, 3, 0), a, b, ha_rows_to(c, 2));
    ha_product_bf16(ha_matmul_of(2, 2, 0, 1), a, b, ha_rows_to(c, 2));
    CHECK(c[0] == 1 && c[3] == 4);
    ha_product_bf16(ha_matmul_of(2, 2, 0, 0), a, b, ha_rows_to(c, 2));
    CHECK(c[0] == 0 && c[3] == 0);
}

int main(void)
{
    RUN(all_kernels);
    RUN(all_layouts);
    RUN(block_types);
    if (!CHECK_UNDER_TSAN)
        RUN(large_operands);
    RUN(nothing_to_do);
    return REPORT();
}
