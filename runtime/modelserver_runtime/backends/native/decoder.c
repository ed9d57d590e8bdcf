/* Decoder-only transformers on CPUs with bf16 dot products: one call computes one step.
 *
 * A step is a list of rows. A row is one token of one sequence: the next token of an answer, or one
 * of a prompt's. Every row is computed by the same instructions in the same order whatever other
 * rows there are, so that an answer does not depend, in any bit, on who else is asking, nor on how
 * its prompt was cut.
 *
 * Weights lie in panels of 32 columns, pairs of rows together, as the instruction takes them:
 *     panel[n / 32][k / 2][n % 32][k % 2]
 * Keys and values lie in blocks of 64 tokens, which sequences may share; see `struct block`.
 */
#define _GNU_SOURCE
#include <immintrin.h>
#include <linux/futex.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint16_t bf16;

enum { PANEL = 32, LANES = 16, BLOCK = 64, MOST_ROWS = 12, CHUNK = 64, WIDEST_HEAD = 256 };

/* ---------------------------------------------------------------- what Python hands over */

typedef struct {
    int32_t n, k;        /* columns and rows of the product; k is even */
    const bf16 *panels;
} matrix;

typedef struct {
    matrix qkv, out, gate_up, down;
    const float *qkv_bias, *out_bias;   /* or NULL */
    const float *input_norm, *post_norm;
    const float *query_norm, *key_norm; /* or NULL */
} layer;

typedef struct {
    int32_t layers, hidden, heads, kv_heads, head, intermediate, vocabulary;
    float epsilon, scale;
    const layer *layer;
    const float *final_norm;
    matrix embedding;    /* [vocabulary, hidden] */
    matrix vocabulary_head;
    const float *cosine, *sine; /* [positions][head / 2] */
    bf16 *pool;          /* [block][layer][kv head][keys, values] */
} model;

typedef struct {
    int32_t rows, chosen;
    const int32_t *token, *position, *sequence; /* of each row */
    const int32_t *const *table;  /* of each sequence: its blocks */
    const int32_t *chosen_rows;   /* whose logits are wanted */
    float *logits;                /* [chosen][vocabulary] */
} batch;

/* ---------------------------------------------------------------- small arithmetic */

static inline float widened(bf16 x) {
    union { uint32_t i; float f; } u = {(uint32_t)x << 16};
    return u.f;
}

static inline bf16 narrowed(float x) {
    union { float f; uint32_t i; } u = {x};
    if (x != x) return 0x7fc0;
    return (bf16)((u.i + 0x7fff + ((u.i >> 16) & 1)) >> 16);
}

static inline void store_narrowed(bf16 *to, __m512 x) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x));
}

static inline __m512 widened16(const bf16 *from) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* exp by 2^n * polynomial of degree 5 (minimax on [-ln2/2, ln2/2]); within 2 ulp for x <= 0 */
static inline __m512 exponential(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-87.3f));
    x = _mm512_min_ps(x, _mm512_set1_ps(88.3f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

/* ---------------------------------------------------------------- the team of threads */

/* The work of a phase is cut into pieces, and whoever is free takes the next one. A phase is over
 * when all of its pieces are done, not when all threads have come: a thread that the machine has
 * taken off its core between two pieces holds nobody up. Such a thread may still be on its way
 * through an old step when the next one has begun, so what it takes is marked with its step. */
typedef struct {
    atomic_ullong next, done; /* step << 32 | pieces */
} phase;

typedef struct {
    const model *model;
    const batch *batch;
    int rows, chosen, groups, attended; /* pieces, also for whoever comes too late to ask */
    float *x, *wide;       /* [rows][hidden]; [rows][queries, keys, values] */
    bf16 *narrow, *queries, *inner; /* inputs of products */
    int32_t *group;        /* first row of each group of rows of one sequence, and the end */
    int phases, threads, stop;
    float *logits, **scores; /* of the batch; of each thread */
    bf16 **weights;
    phase *phase;
    pthread_t *thread;
    atomic_uint step;      /* also what sleepers wait on */
    atomic_int sleeping;
} team;

typedef struct {
    team *team;
    int thread;
    uint32_t step;
} member;

/* Steps follow each other within microseconds; waking a sleeper takes longer than that. */
enum { SPINS_OF_A_PHASE = 4000, SPINS_BEFORE_SLEEP = 60000 };

/* the next piece, or -1 */
static inline int claim(const member *me, int at, int pieces) {
    atomic_ullong *next = &me->team->phase[at].next;
    unsigned long long seen = atomic_load_explicit(next, memory_order_relaxed);
    while ((uint32_t)(seen >> 32) == me->step && (int)(uint32_t)seen < pieces)
        if (atomic_compare_exchange_weak_explicit(next, &seen, seen + 1, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return (int)(uint32_t)seen;
    return -1;
}

static inline void complete(const member *me, int at) {
    atomic_fetch_add_explicit(&me->team->phase[at].done, 1, memory_order_release);
}

/* waits for the others' pieces; false if the step is long over */
static int settle(const member *me, int at, int pieces) {
    atomic_ullong *done = &me->team->phase[at].done;
    for (int spins = 0;; spins++) {
        unsigned long long seen = atomic_load_explicit(done, memory_order_acquire);
        if ((uint32_t)(seen >> 32) != me->step) return 0;
        if ((int)(uint32_t)seen >= pieces) return 1;
        if (spins < SPINS_OF_A_PHASE) _mm_pause();
        else sched_yield(); /* somebody else has the core that the last one needs */
    }
}

/* ---------------------------------------------------------------- products of matrices */

typedef enum { STORE, ADD, GATED } effect;

typedef struct {
    effect effect;
    float *wide;      /* STORE, ADD */
    bf16 *narrow;     /* GATED: silu(first half of the panel) * second half */
    long stride;
    int columns;
    const float *bias;
} epilogue;

static inline __attribute__((always_inline)) void finish(
    const epilogue *e, int row, int panel, __m512 first, __m512 second) {
    int column = panel * PANEL;
    if (e->effect == GATED) {
        __m512 one = _mm512_set1_ps(1.0f);
        __m512 negative = _mm512_sub_ps(_mm512_setzero_ps(), first);
        __m512 gate = _mm512_div_ps(first, _mm512_add_ps(one, exponential(negative)));
        store_narrowed(e->narrow + row * e->stride + panel * LANES, _mm512_mul_ps(gate, second));
        return;
    }
    int left = e->columns - column;
    __mmask16 low = left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1);
    __mmask16 high = left >= PANEL ? 0xffff : left <= LANES ? 0 : (__mmask16)((1u << (left - LANES)) - 1);
    float *to = e->wide + row * e->stride + column;
    if (e->bias) {
        first = _mm512_add_ps(first, _mm512_maskz_loadu_ps(low, e->bias + column));
        second = _mm512_add_ps(second, _mm512_maskz_loadu_ps(high, e->bias + column + LANES));
    }
    if (e->effect == ADD) {
        first = _mm512_add_ps(first, _mm512_maskz_loadu_ps(low, to));
        second = _mm512_add_ps(second, _mm512_maskz_loadu_ps(high, to + LANES));
    }
    _mm512_mask_storeu_ps(to, low, first);
    _mm512_mask_storeu_ps(to + LANES, high, second);
}

#define PAIR(pointer) ((__m512bh)_mm512_set1_epi32(*(const int32_t *)(pointer)))

#define TILE(R)                                                                                  \
    static void tile_##R(const bf16 *a, long stride, const bf16 *w, int pairs,                   \
                         const epilogue *e, int row, int panel) {                                \
        __m512 sum[R][2];                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            sum[r][0] = sum[r][1] = _mm512_setzero_ps();                                         \
        for (int p = 0; p < pairs; p++) {                                                        \
            _mm_prefetch((const char *)(w + 2 * PANEL * 16), _MM_HINT_T0);                        \
            _mm_prefetch((const char *)(w + 2 * PANEL * 16 + PANEL), _MM_HINT_T0);                \
            __m512bh first = (__m512bh)_mm512_loadu_si512(w);                                    \
            __m512bh second = (__m512bh)_mm512_loadu_si512(w + PANEL);                           \
            w += 2 * PANEL;                                                                      \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                               \
                __m512bh x = PAIR(a + r * stride + 2 * p);                                       \
                sum[r][0] = _mm512_dpbf16_ps(sum[r][0], first, x);                               \
                sum[r][1] = _mm512_dpbf16_ps(sum[r][1], second, x);                              \
            }                                                                                    \
        }                                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            finish(e, row + r, panel, sum[r][0], sum[r][1]);                                     \
    }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
typedef void tile(const bf16 *, long, const bf16 *, int, const epilogue *, int, int);
static tile *const TILES[] = {0, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6,
                              tile_7, tile_8, tile_9, tile_10, tile_11, tile_12};

/* rows that are left over after full tiles are spread: 13 rows are 7 and 6, not 12 and 1 */
static inline int tile_rows(int left) {
    int tiles = (left + MOST_ROWS - 1) / MOST_ROWS;
    return (left + tiles - 1) / tiles;
}

static int multiply(const member *me, int at, const matrix *m, const bf16 *a, int rows, epilogue e) {
    int panels = (m->n + PANEL - 1) / PANEL;
    e.columns = m->n;
    for (int panel; (panel = claim(me, at, panels)) >= 0; complete(me, at)) {
        const bf16 *w = m->panels + (long)panel * PANEL * m->k;
        for (int row = 0; row < rows;) {
            int count = tile_rows(rows - row);
            TILES[count](a + (long)row * m->k, m->k, w, m->k / 2, &e, row, panel);
            row += count;
        }
    }
    return settle(me, at, panels);
}

/* ---------------------------------------------------------------- attention */

static inline bf16 *keys_of(const model *m, int block, int layer, int head) {
    long part = (long)BLOCK * m->head;
    return m->pool + (((long)block * m->layers + layer) * m->kv_heads + head) * 2 * part;
}

/* Keys: panels of 16 tokens, pairs of dimensions together. Values: pairs of tokens together. */
static void remember(const model *m, bf16 *block, int at, const float *key, const float *value) {
    bf16 *keys = block + (long)(at / LANES) * LANES * m->head + (at % LANES) * 2;
    bf16 *values = block + (long)BLOCK * m->head + (long)(at / 2) * 2 * m->head + at % 2;
    for (int d = 0; d < m->head; d += 2) {
        keys[d * LANES] = narrowed(key[d]);
        keys[d * LANES + 1] = narrowed(key[d + 1]);
    }
    for (int d = 0; d < m->head; d++) {
        values[2 * d] = narrowed(value[d]);
        if (at % 2 == 0) values[2 * d + 1] = 0; /* what was there may be no number */
    }
}

/* Products of R rows with P panels of keys. Values lie behind the keys, as far behind as these are
 * long, and are asked of memory meanwhile. */
#define SCORE(R, P)                                                                              \
    static inline void score_##R##_##P(const bf16 *q, const bf16 *keys, int head, float *to,     \
                                       long stride) {                                            \
        __m512 sum[R][P];                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < P; i++)                                  \
                sum[r][i] = _mm512_setzero_ps();                                                 \
        for (int d = 0; d < head; d += 2) {                                                      \
            __m512bh key[P];                                                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < P; i++) {                                \
                const bf16 *line = keys + i * LANES * head + LANES * d;                          \
                key[i] = (__m512bh)_mm512_loadu_si512(line);                                     \
                _mm_prefetch((const char *)(line + BLOCK * head), _MM_HINT_T1);                  \
            }                                                                                    \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                               \
                __m512bh x = PAIR(q + r * head + d);                                             \
                _Pragma("GCC unroll 4") for (int i = 0; i < P; i++)                              \
                    sum[r][i] = _mm512_dpbf16_ps(sum[r][i], key[i], x);                          \
            }                                                                                    \
        }                                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < P; i++)                                  \
                _mm512_storeu_ps(to + r * stride + i * LANES, sum[r][i]);                        \
    }
/* Few rows are many short sums that wait for each other: so P panels at once while there are. */
#define SCORES(R, P)                                                                             \
    SCORE(R, P)                                                                                  \
    static void scores_##R(const bf16 *q, const bf16 *keys, int head, int panels, float *to,     \
                           long stride) {                                                        \
        int at = 0;                                                                              \
        for (; at + P <= panels; at += P)                                                        \
            score_##R##_##P(q, keys + at * LANES * head, head, to + at * LANES, stride);         \
        for (; at < panels; at++)                                                                \
            score_##R##_1(q, keys + at * LANES * head, head, to + at * LANES, stride);           \
    }
SCORE(1, 1) SCORE(2, 1) SCORE(3, 1) SCORE(4, 1) SCORE(5, 1) SCORE(6, 1)
SCORES(1, 4) SCORES(2, 4) SCORES(3, 4) SCORES(4, 2) SCORES(5, 2) SCORES(6, 2) SCORES(7, 1)
SCORES(8, 1) SCORES(9, 1) SCORES(10, 1) SCORES(11, 1) SCORES(12, 1)
typedef void scoring(const bf16 *, const bf16 *, int, int, float *, long);
static scoring *const SCORINGS[] = {0, scores_1, scores_2, scores_3, scores_4, scores_5, scores_6,
                                    scores_7, scores_8, scores_9, scores_10, scores_11, scores_12};

/* weighted sums of C times 16 columns of the values of R rows */
#define MIX(R, C)                                                                                \
    static void mix_##R##_##C(const model *m, const int32_t *table, int layer, int head,         \
                              int column, const bf16 *weights, long stride, int tokens,          \
                              float (*out)[CHUNK]) {                                             \
        __m512 sum[R][C];                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < C; i++)                                  \
                sum[r][i] = _mm512_setzero_ps();                                                 \
        for (int begin = 0; begin < tokens; begin += BLOCK) {                                    \
            const bf16 *values = keys_of(m, table[begin / BLOCK], layer, head)                   \
                                 + (long)BLOCK * m->head + 2 * column;                           \
            int left = tokens - begin < BLOCK ? tokens - begin : BLOCK;                          \
            for (int p = 0; p < (left + 1) / 2; p++, values += 2 * m->head) {                    \
                __m512bh value[C];                                                               \
                _Pragma("GCC unroll 4") for (int i = 0; i < C; i++)                              \
                    value[i] = (__m512bh)_mm512_loadu_si512(values + 2 * LANES * i);             \
                _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                           \
                    __m512bh x = PAIR(weights + r * stride + begin + 2 * p);                     \
                    _Pragma("GCC unroll 4") for (int i = 0; i < C; i++)                          \
                        sum[r][i] = _mm512_dpbf16_ps(sum[r][i], value[i], x);                    \
                }                                                                                \
            }                                                                                    \
        }                                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < C; i++)                                  \
                _mm512_storeu_ps(out[r] + LANES * i, sum[r][i]);                                 \
    }
MIX(1, 2) MIX(2, 2) MIX(3, 2) MIX(4, 2) MIX(5, 2) MIX(6, 2) MIX(7, 2) MIX(8, 2) MIX(9, 2)
MIX(10, 2) MIX(11, 2) MIX(12, 2) MIX(1, 4) MIX(2, 4) MIX(3, 4) MIX(4, 4) MIX(5, 4) MIX(6, 4)
typedef void mixing(const model *, const int32_t *, int, int, int, const bf16 *, long, int,
                    float (*)[CHUNK]);
static mixing *const MIXINGS[] = {0, mix_1_2, mix_2_2, mix_3_2, mix_4_2, mix_5_2, mix_6_2,
                                  mix_7_2, mix_8_2, mix_9_2, mix_10_2, mix_11_2, mix_12_2};
static mixing *const WIDE_MIXINGS[] = {0, mix_1_4, mix_2_4, mix_3_4, mix_4_4, mix_5_4, mix_6_4};
enum { MOST_WIDE_ROWS = 6 }; /* more sums than 24 do not fit the registers */

/* scores -> weights that are not yet divided by their sum, which is returned */
static float softmax(float *scores, bf16 *weights, int tokens, int padded, float scale) {
    for (int i = tokens; i < padded; i++) scores[i] = -INFINITY;
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (int i = 0; i < padded; i += LANES) most = _mm512_max_ps(most, _mm512_loadu_ps(scores + i));
    __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most) * scale);
    __m512 factor = _mm512_set1_ps(scale), sum = _mm512_setzero_ps();
    for (int i = 0; i < padded; i += LANES) {
        __m512 x = _mm512_loadu_ps(scores + i);
        __mmask16 seen = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-INFINITY), _CMP_NEQ_UQ);
        __m512 e = _mm512_maskz_mov_ps(seen, exponential(_mm512_fmsub_ps(x, factor, top)));
        sum = _mm512_add_ps(sum, e);
        store_narrowed(weights + i, e);
    }
    return _mm512_reduce_add_ps(sum);
}

/* Consecutive rows of one sequence, and all query heads that share one head of keys. */
static void attend(team *t, int thread, int layer, int begin, int end, int head) {
    const model *m = t->model;
    const batch *b = t->batch;
    int repeats = m->heads / m->kv_heads;
    const int32_t *table = b->table[b->sequence[begin]];
    int tokens = b->position[end - 1] + 1;
    int padded = (tokens + BLOCK - 1) / BLOCK * BLOCK;
    float *scores = t->scores[thread], sums[MOST_ROWS];
    bf16 *weights = t->weights[thread];
    long width = (long)m->heads * m->head;
    bf16 queries[MOST_ROWS * WIDEST_HEAD]; /* [row][repeat]: of one row they follow each other */
    int count = (end - begin) * repeats;
    for (int row = begin; row < end; row++)
        memcpy(queries + (row - begin) * repeats * m->head,
               t->queries + row * width + (long)head * repeats * m->head,
               repeats * m->head * sizeof(bf16));
    for (int at = 0; at < tokens; at += BLOCK) {
        int left = tokens - at < BLOCK ? tokens - at : BLOCK;
        SCORINGS[count](queries, keys_of(m, table[at / BLOCK], layer, head), m->head,
                        (left + LANES - 1) / LANES, scores + at, padded);
    }
    for (int i = 0; i < count; i++) {
        int seen = b->position[begin + i / repeats] + 1;
        sums[i] = softmax(scores + (long)i * padded, weights + (long)i * padded, seen, padded, m->scale);
    }
    for (int column = 0, columns; column < m->head; column += columns) {
        float mixed[MOST_ROWS][CHUNK];
        int is_wide = count <= MOST_WIDE_ROWS && m->head - column >= CHUNK;
        columns = is_wide ? CHUNK : PANEL;
        (is_wide ? WIDE_MIXINGS : MIXINGS)[count](m, table, layer, head, column, weights, padded,
                                                  tokens, mixed);
        for (int i = 0; i < count; i++) {
            __m512 factor = _mm512_set1_ps(1.0f / sums[i]);
            bf16 *to = t->inner + (begin + i / repeats) * width
                       + (long)(head * repeats + i % repeats) * m->head + column;
            for (int at = 0; at < columns; at += LANES)
                store_narrowed(to + at, _mm512_mul_ps(_mm512_loadu_ps(mixed[i] + at), factor));
        }
    }
}

/* ---------------------------------------------------------------- what is done row by row */

static void normalize(const float *x, const float *weight, int n, float epsilon, bf16 *to) {
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < n; i += LANES) {
        __m512 v = _mm512_loadu_ps(x + i);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    __m512 factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(sum) / n + epsilon));
    for (int i = 0; i < n; i += LANES) {
        __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), factor);
        store_narrowed(to + i, _mm512_mul_ps(v, _mm512_loadu_ps(weight + i)));
    }
}

static void normalize_head(float *x, const float *weight, int n, float epsilon) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    float factor = 1.0f / sqrtf(sum / n + epsilon);
    for (int i = 0; i < n; i++) x[i] *= factor * weight[i];
}

static void rotate(float *x, const float *cosine, const float *sine, int half) {
    for (int i = 0; i < half; i += LANES) {
        __mmask16 mask = half - i >= LANES ? 0xffff : (__mmask16)((1u << (half - i)) - 1);
        __m512 a = _mm512_maskz_loadu_ps(mask, x + i), b = _mm512_maskz_loadu_ps(mask, x + half + i);
        __m512 c = _mm512_maskz_loadu_ps(mask, cosine + i), s = _mm512_maskz_loadu_ps(mask, sine + i);
        _mm512_mask_storeu_ps(x + i, mask, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + half + i, mask, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
}

static void embed(const model *m, int token, float *to) {
    const bf16 *from = m->embedding.panels + (long)(token / PANEL) * PANEL * m->hidden
                       + (token % PANEL) * 2;
    for (int k = 0; k < m->hidden; k += 2, from += 2 * PANEL) {
        to[k] = widened(from[0]);
        to[k + 1] = widened(from[1]);
    }
}

static void place(team *t, int layer_index, int row) {
    const model *m = t->model;
    const batch *b = t->batch;
    const layer *l = &m->layer[layer_index];
    int half = m->head / 2, position = b->position[row];
    const float *cosine = m->cosine + (long)position * half, *sine = m->sine + (long)position * half;
    float *query = t->wide + (long)row * (m->heads + 2 * m->kv_heads) * m->head;
    float *key = query + (long)m->heads * m->head, *value = key + (long)m->kv_heads * m->head;
    bf16 *to = t->queries + (long)row * m->heads * m->head;
    for (int h = 0; h < m->heads; h++) {
        float *x = query + (long)h * m->head;
        if (l->query_norm) normalize_head(x, l->query_norm, m->head, m->epsilon);
        rotate(x, cosine, sine, half);
        for (int d = 0; d < m->head; d += LANES)
            store_narrowed(to + (long)h * m->head + d, _mm512_loadu_ps(x + d));
    }
    int block = b->table[b->sequence[row]][position / BLOCK];
    for (int h = 0; h < m->kv_heads; h++) {
        float *x = key + (long)h * m->head;
        if (l->key_norm) normalize_head(x, l->key_norm, m->head, m->epsilon);
        rotate(x, cosine, sine, half);
        remember(m, keys_of(m, block, layer_index, h), position % BLOCK, x, value + (long)h * m->head);
    }
}

/* ---------------------------------------------------------------- a step */

/* Two rows of one pair of values may not be written by two threads: pieces are whole groups. */
static int place_all(const member *me, int at, int layer) {
    team *t = me->team;
    for (int g; (g = claim(me, at, t->groups)) >= 0; complete(me, at))
        for (int row = t->group[g]; row < t->group[g + 1]; row++) place(t, layer, row);
    return settle(me, at, t->groups);
}

static int normalize_all(const member *me, int at, const float *weight) {
    team *t = me->team;
    int n = t->model->hidden;
    for (int row; (row = claim(me, at, t->rows)) >= 0; complete(me, at))
        normalize(t->x + (long)row * n, weight, n, t->model->epsilon, t->narrow + (long)row * n);
    return settle(me, at, t->rows);
}

/* rows of one group whose queries fit the registers */
static inline int rows_at_once(const model *m) { return MOST_ROWS / (m->heads / m->kv_heads); }

static inline int parts_of(const team *t, int group) {
    int most = rows_at_once(t->model);
    return (t->group[group + 1] - t->group[group] + most - 1) / most;
}

static int attend_all(const member *me, int at, int layer) {
    team *t = me->team;
    int heads = t->model->kv_heads, most = rows_at_once(t->model), g = 0, before = 0;
    for (int piece; (piece = claim(me, at, t->attended)) >= 0; complete(me, at)) {
        for (; piece / heads >= before + parts_of(t, g); g++) before += parts_of(t, g);
        int begin = t->group[g] + (piece / heads - before) * most;
        int end = begin + most < t->group[g + 1] ? begin + most : t->group[g + 1];
        attend(t, me->thread, layer, begin, end, piece % heads);
    }
    return settle(me, at, t->attended);
}

static int embed_all(const member *me, int at) {
    team *t = me->team;
    int n = t->model->hidden;
    for (int row; (row = claim(me, at, t->rows)) >= 0; complete(me, at))
        embed(t->model, t->batch->token[row], t->x + (long)row * n);
    return settle(me, at, t->rows);
}

static int choose_all(const member *me, int at) {
    team *t = me->team;
    const model *m = t->model;
    for (int i; (i = claim(me, at, t->chosen)) >= 0; complete(me, at))
        normalize(t->x + (long)t->batch->chosen_rows[i] * m->hidden, m->final_norm, m->hidden,
                  m->epsilon, t->narrow + (long)i * m->hidden);
    return settle(me, at, t->chosen);
}

enum { PHASES_OF_A_LAYER = 8 };

static int compute_layer(const member *me, int at, int index) {
    team *t = me->team;
    const model *m = t->model;
    const layer *l = &m->layer[index];
    epilogue qkv = {.effect = STORE, .wide = t->wide, .stride = l->qkv.n, .bias = l->qkv_bias};
    epilogue out = {.effect = ADD, .wide = t->x, .stride = m->hidden, .bias = l->out_bias};
    epilogue gated = {.effect = GATED, .narrow = t->inner, .stride = m->intermediate};
    epilogue down = {.effect = ADD, .wide = t->x, .stride = m->hidden};
    return normalize_all(me, at, l->input_norm)
        && multiply(me, at + 1, &l->qkv, t->narrow, t->rows, qkv)
        && place_all(me, at + 2, index)
        && attend_all(me, at + 3, index)
        && multiply(me, at + 4, &l->out, t->inner, t->rows, out)
        && normalize_all(me, at + 5, l->post_norm)
        && multiply(me, at + 6, &l->gate_up, t->narrow, t->rows, gated)
        && multiply(me, at + 7, &l->down, t->inner, t->rows, down);
}

/* A member that comes late finds everything done, and leaves as soon as the next step has begun;
 * it touches nothing of a batch without a piece, because only with one is the batch still there. */
static void run(const member *me) {
    team *t = me->team;
    const model *m = t->model;
    if (!embed_all(me, 0)) return;
    for (int i = 0; i < m->layers; i++)
        if (!compute_layer(me, 1 + i * PHASES_OF_A_LAYER, i)) return;
    int at = 1 + m->layers * PHASES_OF_A_LAYER;
    if (!choose_all(me, at)) return;
    multiply(me, at + 1, &m->vocabulary_head, t->narrow, t->chosen,
             (epilogue){.effect = STORE, .wide = t->logits, .stride = m->vocabulary});
}

static long futex(atomic_uint *at, int operation, uint32_t value) {
    return syscall(SYS_futex, at, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void *work(void *argument) {
    member me = *(member *)argument;
    free(argument);
    team *t = me.team;
    for (;;) {
        for (int spins = 0; atomic_load(&t->step) == me.step; spins++) {
            if (spins < SPINS_BEFORE_SLEEP) { _mm_pause(); continue; }
            atomic_fetch_add(&t->sleeping, 1);
            futex(&t->step, FUTEX_WAIT, me.step);
            atomic_fetch_sub(&t->sleeping, 1);
        }
        me.step = atomic_load(&t->step);
        if (t->stop) return NULL;
        run(&me);
    }
}

static void *room(size_t bytes) {
    void *made = NULL;
    if (posix_memalign(&made, 64, bytes + 64)) return NULL;
    memset(made, 0, bytes + 64);
    return made;
}

/* ---------------------------------------------------------------- the interface */

team *decoder_start(const model *m, int threads, int most_rows, int longest) {
    team *t = room(sizeof *t);
    int padded = (longest + BLOCK - 1) / BLOCK * BLOCK;
    long attended = (long)m->heads * m->head;
    long inner = m->intermediate > attended ? m->intermediate : attended;
    t->model = m;
    t->threads = threads;
    t->phases = PHASES_OF_A_LAYER * m->layers + 3;
    t->x = room(sizeof(float) * most_rows * m->hidden);
    t->wide = room(sizeof(float) * most_rows * (m->heads + 2 * m->kv_heads) * m->head);
    t->narrow = room(sizeof(bf16) * most_rows * m->hidden);
    t->queries = room(sizeof(bf16) * most_rows * attended);
    t->inner = room(sizeof(bf16) * most_rows * inner);
    t->group = room(sizeof(int32_t) * (most_rows + 1));
    t->phase = room(sizeof(phase) * t->phases);
    t->scores = room(sizeof(float *) * threads);
    t->weights = room(sizeof(bf16 *) * threads);
    t->thread = room(sizeof(pthread_t) * threads);
    for (int i = 0; i < threads; i++) {
        t->scores[i] = room(sizeof(float) * MOST_ROWS * padded);
        t->weights[i] = room(sizeof(bf16) * MOST_ROWS * padded);
    }
    for (int i = 1; i < threads; i++) {
        member *made = malloc(sizeof *made);
        *made = (member){.team = t, .thread = i};
        pthread_create(&t->thread[i], NULL, work, made);
    }
    return t;
}

void decoder_step(team *t, const batch *b) {
    uint32_t step = atomic_load(&t->step) + 1;
    for (int i = 0; i < t->phases; i++) { /* members of the old step can take nothing any more */
        atomic_store(&t->phase[i].next, (unsigned long long)step << 32);
        atomic_store(&t->phase[i].done, (unsigned long long)step << 32);
    }
    t->batch = b;
    t->logits = b->logits;
    t->rows = b->rows;
    t->chosen = b->chosen;
    t->groups = 0;
    for (int row = 0; row < b->rows; row++)
        if (!row || b->sequence[row] != b->sequence[row - 1]) t->group[t->groups++] = row;
    t->group[t->groups] = b->rows;
    t->attended = 0;
    for (int g = 0; g < t->groups; g++) t->attended += parts_of(t, g) * t->model->kv_heads;
    atomic_store(&t->step, step);
    if (atomic_load(&t->sleeping)) futex(&t->step, FUTEX_WAKE, t->threads);
    run(&(member){.team = t, .step = step});
}

void decoder_stop(team *t) {
    t->stop = 1;
    atomic_fetch_add(&t->step, 1);
    futex(&t->step, FUTEX_WAKE, t->threads);
    for (int i = 1; i < t->threads; i++) pthread_join(t->thread[i], NULL);
    for (int i = 0; i < t->threads; i++) free(t->scores[i]), free(t->weights[i]);
    free(t->x), free(t->wide), free(t->narrow), free(t->queries), free(t->inner), free(t->group);
    free(t->phase), free(t->scores), free(t->weights), free(t->thread), free(t);
}

/* [n][k] -> panels; columns beyond n are zero */
void decoder_pack(const bf16 *from, int n, int k, bf16 *to) {
    for (int panel = 0; panel < (n + PANEL - 1) / PANEL; panel++)
        for (int c = 0; c < PANEL; c++) {
            int column = panel * PANEL + c;
            uint32_t *pairs = (uint32_t *)(to + (long)panel * PANEL * k) + c;
            const uint32_t *source = (const uint32_t *)(from + (long)column * k);
            for (int p = 0; p < k / 2; p++) pairs[(long)p * PANEL] = column < n ? source[p] : 0;
        }
}

/* as decoder_pack, of two matrices: 16 columns of each in a panel */
void decoder_pack_gated(const bf16 *gate, const bf16 *up, int n, int k, bf16 *to) {
    for (int panel = 0; panel < n / LANES; panel++)
        for (int c = 0; c < PANEL; c++) {
            int column = panel * LANES + c % LANES;
            uint32_t *pairs = (uint32_t *)(to + (long)panel * PANEL * k) + c;
            const uint32_t *source = (const uint32_t *)((c < LANES ? gate : up) + (long)column * k);
            for (int p = 0; p < k / 2; p++) pairs[(long)p * PANEL] = source[p];
        }
}
