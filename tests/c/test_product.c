/* Products of any shape and layout against sums in double, and the same bits for any number of threads. */
#include "core/thread.h"
#include "ops/product.h"
#include "products.h"

static float as_it_is(float x)
{
    return x;
}

static void one(int m, int n, int k, int layout, float alpha, int accumulate)
{
    const int ldc = n + 5;
    const size_t size = (size_t)m * (size_t)ldc;
    float *a = numbers((size_t)m * (size_t)k, 0, 1), *b = numbers((size_t)n * (size_t)k, 0, 2);
    float *before = numbers(size, 0, 3), *c = malloc(size * sizeof *c), *again = malloc(size * sizeof *c);
    const ha_matmul product = {m, n, k, alpha, accumulate};
    const ha_view left = layout & 1 ? ha_view_transposed(ha_rows_of(a, m)) : ha_view_rows(ha_rows_of(a, k));
    const ha_view right = layout & 2 ? ha_view_transposed(ha_rows_of(b, k)) : ha_view_rows(ha_rows_of(b, n));
    for (int threads = 1; threads <= 8; threads = threads < 4 ? threads + 1 : 2 * threads) {
        float *to = threads == 1 ? c : again;
        memcpy(to, before, size * sizeof *to);
        ha_set_threads(threads);
        ha_product(product, left, right, ha_rows_to(to, ldc));
        CHECK(threads == 1 || memcmp(c, again, size * sizeof *c) == 0);
    }
    compare_product(product, left, right, (c_of_product){before, c, ldc}, as_it_is, 1e-5);
    compare_between(product, (c_of_product){before, c, ldc});
    free(a);
    free(b);
    free(before);
    free(c);
    free(again);
}

static void all_layouts(void)
{
    static const int shapes[][3] = {{97, 1, 1},     {97, 33, 7},    {100, 31, 321}, {144, 64, 320}, {145, 65, 640},
                                    {300, 97, 576}, {97, 500, 129}, {577, 96, 8},   {3, 200, 70},   {96, 96, 96}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int layout = 0; layout < 4; layout++) {
            one(shapes[i][0], shapes[i][1], shapes[i][2], layout, 1.0f, 0);
            one(shapes[i][0], shapes[i][1], shapes[i][2], layout, -0.75f, 1);
        }
}

/* More than the shared operand's room holds: several parts of its lines, of k, of both. */
static void large_operands(void)
{
    one(100, 7000, 330, 2, 1.0f, 1);
    one(7000, 100, 330, 0, 1.0f, 0);
    one(120, 130, 30000, 0, 1.0f, 1);
    one(120, 130, 30000, 3, 1.0f, 0);
    one(6800, 6700, 20, 2, 1.0f, 0);
}

static void nothing_to_do(void)
{
    float c[4] = {1, 2, 3, 4};
    const ha_view a = ha_view_rows(ha_rows_of(c, 3));
    ha_product(ha_matmul_of(0, 2, 3, 0), a, ha_view_rows(ha_rows_of(c, 2)), ha_rows_to(c, 2));
    ha_product(ha_matmul_of(2, 0, 3, 0), a, ha_view_rows(ha_rows_of(c, 0)), ha_rows_to(c, 2));
    CHECK(c[0] == 1 && c[3] == 4);
}

int main(void)
{
    RUN(all_layouts);
    if (!CHECK_UNDER_TSAN)
        RUN(large_operands);
    RUN(nothing_to_do);
    return REPORT();
}
