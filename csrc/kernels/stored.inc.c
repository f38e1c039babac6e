/* Matrices of 16, 8 and 4 bits: decoding, and products with a few rows that stream them once.
 *
 * A step is 32 numbers of a row, one block of the block types: codes become floats in registers,
 * meet x, and the block's scale is applied to the sums. AVX2, q8_0: 4 loads with sign extension, 4
 * conversions and 5 FMAs for 34 bytes. */
enum { STEP = HA_BLOCK_ITEMS, PARTS = STEP / W };

typedef struct {
    vf code[PARTS];
    float scale, low; /* number = scale * code + low; of block types only */
} block;

INLINE float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
#if defined HA_ISA_AVX2 || defined HA_ISA_AVX512
    return _cvtsh_ss(h);
#else
    return v_load_half((const uint16_t[W]){h})[0];
#endif
}

INLINE int has_scale(const ha_dtype type)
{
    return type == HA_Q8_0 || type == HA_Q4_0 || type == HA_Q4_1;
}

INLINE int has_low(const ha_dtype type)
{
    return type == HA_Q4_0 || type == HA_Q4_1;
}

INLINE size_t step_bytes(const ha_dtype type)
{
    return type == HA_Q8_0 ? 34 : type == HA_Q4_0 ? 18 : type == HA_Q4_1 ? 20 : 2 * STEP;
}

INLINE block load_step(const ha_dtype type, const uint8_t *p)
{
    block b = {.scale = 1.0f};
    if (has_scale(type))
        b.scale = half_at(p);
    if (type == HA_Q4_0)
        b.low = -8.0f * b.scale;
    if (type == HA_Q4_1)
        b.low = half_at(p + 2);
    p += type == HA_Q4_1 ? 4 : has_scale(type) ? 2 : 0;
    for (int i = 0; i < PARTS; i++) {
        if (type == HA_BF16)
            b.code[i] = v_load_bf16(p + 2 * i * W);
        else if (type == HA_F16)
            b.code[i] = v_load_half(p + 2 * i * W);
        else if (type == HA_Q8_0)
            b.code[i] = v_float(v_load_i8(p + i * W));
        else if (i < PARTS / 2) {
            vi both = v_load_u8(p + i * W);
            b.code[i] = v_float(both & 15);
            b.code[i + PARTS / 2] = v_float(both >> 4);
        }
    }
    return b;
}

/* The numbers after the last whole step of a row of 16-bit numbers, and 0. */
INLINE block load_rest(const ha_dtype type, const uint8_t *p, int n)
{
    uint8_t padded[2 * STEP] = {0};
    memcpy(padded, p, 2 * (size_t)n);
    return load_step(type, padded);
}

/* Rows of x that meet a step of W once it is decoded, and rows of W beside them: as many as
 * registers hold. */
#if defined HA_ISA_AVX512
enum { TOGETHER = 4, BESIDE = 4 };
#else
enum { TOGETHER = 4, BESIDE = 2 };
#endif

/* mr rows of x against nr rows of W over one step; `left` < STEP numbers at the end of a row are
 * met with zeros. A row's sum is the same whatever rows are beside it. */
INLINE void step(const ha_dtype type, const int mr, const int nr, int left, ha_rows x, ha_stored_rows w, vf acc[][4])
{
    const int whole = left == STEP; /* a constant where this is called */
    vf part[TOGETHER][PARTS], sum[TOGETHER];
    for (int i = 0; i < mr; i++) {
        float padded[STEP] = {0};
        const float *row = x.at + i * x.stride;
        const float *from = whole ? row : memcpy(padded, row, (size_t)left * sizeof *row);
        for (int p = 0; p < PARTS; p++) {
            part[i][p] = v_load(from + p * W);
            sum[i] = p ? sum[i] + part[i][p] : part[i][p];
        }
    }
    for (int j = 0; j < nr; j++) {
        const uint8_t *from = w.at + (size_t)j * w.stride;
        const block b = whole ? load_step(type, from) : load_rest(type, from, left);
        for (int i = 0; i < mr; i++) {
            vf dot = type == HA_Q4_0 ? v_set(-8.0f) * sum[i] : has_scale(type) ? v_set(0.0f) : acc[i][j];
            for (int p = 0; p < PARTS; p++)
                dot += part[i][p] * b.code[p];
            acc[i][j] = has_scale(type) ? acc[i][j] + v_set(b.scale) * dot : dot;
            if (type == HA_Q4_1)
                acc[i][j] += v_set(b.low) * sum[i];
        }
    }
}

/* mr rows of x against nr rows of W, as `dots` of float32 */
INLINE void stored_dots(const ha_dtype type, const int mr, const int nr, ha_matmul p, ha_rows x, ha_stored_rows w,
                        ha_rows_out y)
{
    int depth = (int)p.depth;
    vf acc[TOGETHER][4];
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nr; j++)
            acc[i][j] = v_set(0.0f);
    const char *ahead = (const char *)w.at + STREAM_AHEAD;
    for (; depth >= STEP; depth -= STEP, x.at += STEP, w.at += step_bytes(type)) {
        prefetch(ahead, nr * step_bytes(type));
        ahead += nr * step_bytes(type);
        step(type, mr, nr, STEP, x, w, acc);
    }
    if (depth && !has_scale(type))
        step(type, mr, nr, depth, x, w, acc);
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nr; j++) {
            float *to = y.at + i * y.stride + j;
            *to = (p.accumulate ? *to : 0.0f) + p.scale * v_sum(acc[i][j]);
        }
}

INLINE void stored_gemv(const ha_dtype type, ha_matmul p, ha_rows x, ha_stored_rows w, ha_rows_out y)
{
    const int rows = (int)p.rows, columns = (int)p.columns;
    int j = 0;
    for (; j + 4 <= columns; j += 4, w.at += 4 * w.stride) {
        int i = 0;
        for (; i + TOGETHER <= rows; i += TOGETHER)
            for (int beside = 0; beside < 4; beside += BESIDE) {
                const ha_stored_rows from = {w.at + (size_t)beside * w.stride, w.stride};
                stored_dots(type, TOGETHER, BESIDE, p, ha_rows_from(x, i, 0), from, ha_rows_out_from(y, i, j + beside));
            }
        for (; i + 2 <= rows; i += 2)
            stored_dots(type, 2, 4, p, ha_rows_from(x, i, 0), w, ha_rows_out_from(y, i, j));
        if (i < rows)
            stored_dots(type, 1, 4, p, ha_rows_from(x, i, 0), w, ha_rows_out_from(y, i, j));
    }
    for (; j < columns; j++, w.at += w.stride)
        for (int i = 0; i < rows; i++)
            stored_dots(type, 1, 1, p, ha_rows_from(x, i, 0), w, ha_rows_out_from(y, i, j));
}

INLINE void decode(const ha_dtype type, size_t n, const uint8_t *from, float *to)
{
    for (; n >= STEP; n -= STEP, from += step_bytes(type), to += STEP) {
        block b = load_step(type, from);
        for (int p = 0; p < PARTS; p++)
            v_store(to + p * W, has_scale(type) ? v_set(b.scale) * b.code[p] + v_set(b.low) : b.code[p]);
    }
    if (n && !has_scale(type)) {
        float rest[STEP];
        block b = load_rest(type, from, (int)n);
        for (int p = 0; p < PARTS; p++)
            v_store(rest + p * W, b.code[p]);
        memcpy(to, rest, n * sizeof *to);
    }
}

#define STORED(name, type)                                                           \
    static void gemv_##name(ha_matmul p, ha_rows x, ha_stored_rows w, ha_rows_out y) \
    {                                                                                \
        stored_gemv(type, p, x, w, y);                                               \
    }                                                                                \
    static void decode_##name(size_t n, const void *src, float *dst)                 \
    {                                                                                \
        decode(type, n, src, dst);                                                   \
    }

STORED(bf16, HA_BF16)
STORED(f16, HA_F16)
STORED(q8_0, HA_Q8_0)
STORED(q4_0, HA_Q4_0)
STORED(q4_1, HA_Q4_1)
#undef STORED

static void decode_f32(size_t n, const void *src, float *dst)
{
    memcpy(dst, src, n * sizeof *dst);
}
