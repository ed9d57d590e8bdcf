/* Encoders of the BERT kind on CPUs with bf16 dot products: one call computes the tokens' vectors.
 *
 * Texts follow each other without padding: a row is one token of one text. Linear layers see all rows
 * as one matrix, attention sees each text by itself. Every row is computed by the same instructions
 * in the same order whatever other rows there are, so that a text's vectors do not depend, in any
 * bit, on which other texts are computed with it.
 *
 * Factors of products are bf16; sums, norms, softmax and what passes from layer to layer are float32.
 * Weights lie in panels of 32 columns, pairs of rows together, as the instruction takes them:
 *     panel[n / 32][k / 2][n % 32][k % 2]
 */
#define _GNU_SOURCE
#include <immintrin.h>
#include <linux/futex.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint16_t bf16;

/* 24 sums and 2 columns of weights fit into 32 registers: 12 rows of a panel */
enum { PANEL = 32, LANES = 16, MOST_ROWS = 12 };
/* Rows of a piece of a product: with 1,536 columns 590 KB, which most second-level caches hold. */
enum { ROWS_OF_PIECE = 16 * MOST_ROWS };
/* Rows of a piece of a norm: enough that taking a piece costs nothing beside it. */
enum { ROWS_OF_NORM = 16 };

/* ---------------------------------------------------------------- what Python hands over */

typedef struct {
    int32_t n, k;       /* columns, a multiple of 32, and rows, which are even */
    const bf16 *panels;
    const float *bias;
} matrix;

typedef struct {
    const float *weight, *bias;
} norm;

typedef struct {
    matrix qkv, out, up, down;
    norm attended, finished;
} layer;

typedef enum { GELU, GELU_BY_TANH, RELU } activation;

typedef struct {
    int32_t layers, hidden, heads, head, intermediate, activation;
    float epsilon, scale;
    const layer *layer;
    const float *words, *positions; /* rows of `hidden` */
    const float *kind;              /* what every row gets: that of the first segment; or NULL */
    norm embedded;
    const float *nearness; /* [heads][2 * reach + 1 + 16]: added to scores, by key - query + reach;
                              or NULL */
    int64_t reach;
} model;

typedef struct {
    int32_t rows, texts;
    const int32_t *token, *position; /* of each row */
    const int32_t *begin;            /* the first row of each text, and the end */
    float *vectors;                  /* [rows][hidden]: the answer */
} batch;

/* ---------------------------------------------------------------- small arithmetic */

static inline void store_narrowed(bf16 *to, __m512 x) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x));
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

/* Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: within 1.5e-7 for x >= 0 */
static inline __m512 error_function(__m512 x) {
    __m512 one = _mm512_set1_ps(1.0f);
    __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(x, _mm512_set1_ps(0.3275911f), one));
    __m512 p = _mm512_set1_ps(1.061405429f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
    __m512 tail = exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(x, x)));
    return _mm512_fnmadd_ps(_mm512_mul_ps(p, t), tail, one);
}

static inline __m512 activated(activation kind, __m512 x) {
    __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.0f);
    if (kind == RELU) return _mm512_max_ps(x, zero);
    if (kind == GELU_BY_TANH) { /* (1 + tanh u) / 2 = 1 / (1 + exp -2u) */
        __m512 inner = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), one);
        __m512 twice = _mm512_mul_ps(_mm512_mul_ps(x, inner), _mm512_set1_ps(-1.5957691216f));
        return _mm512_div_ps(x, _mm512_add_ps(one, exponential(twice)));
    }
    __m512 part = error_function(_mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f)));
    __mmask16 negative = _mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ);
    part = _mm512_mask_sub_ps(part, negative, zero, part);
    return _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.5f)), _mm512_add_ps(one, part));
}

/* ---------------------------------------------------------------- the team of threads */

/* As in decoder.c: the work of a phase is cut into pieces, whoever is free takes the next one, and a
 * phase is over when its pieces are done, so that nobody waits for a thread that is off its core.
 * Such a thread may still be on its way through an old step when the next one has begun: what it
 * takes is marked with its step. */
typedef struct {
    atomic_ullong next, done; /* step << 32 | pieces */
} phase;

typedef struct {
    const model *model;
    const batch *batch;
    int rows, texts, phases, threads, stop;
    float *x;                     /* [rows][hidden]: the batch's vectors */
    bf16 *narrow, *qkv, *inner;   /* [rows][hidden], [rows][3 * hidden], [rows][intermediate] */
    float **scores;               /* of each thread, as the three that follow */
    bf16 **weights, **keys, **values;
    phase *phase;
    pthread_t *thread;
    atomic_uint step;             /* also what sleepers wait on */
    atomic_int sleeping;
} team;

typedef struct {
    team *team;
    int thread;
    uint32_t step;
} member;

/* Calls of one batch follow each other within microseconds; waking a sleeper takes longer. */
enum { SPINS_OF_A_PHASE = 4000, SPINS_BEFORE_SLEEP = 20000 };

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

typedef enum { NARROW, ACTIVATE, ADD } effect;

typedef struct {
    effect effect;
    activation activation;
    bf16 *narrow; /* NARROW, ACTIVATE */
    float *wide;  /* ADD */
    long stride;
    const float *bias;
} epilogue;

static inline __attribute__((always_inline)) void finish_lanes(
    const epilogue *e, long at, int column, __m512 sum) {
    sum = _mm512_add_ps(sum, _mm512_loadu_ps(e->bias + column));
    if (e->effect == ADD) {
        _mm512_storeu_ps(e->wide + at, _mm512_add_ps(sum, _mm512_loadu_ps(e->wide + at)));
        return;
    }
    store_narrowed(e->narrow + at, e->effect == ACTIVATE ? activated(e->activation, sum) : sum);
}

#define PAIR(pointer) ((__m512bh)_mm512_set1_epi32(*(const int32_t *)(pointer)))

#define TILE(R)                                                                                  \
    static void tile_##R(const bf16 *a, long stride, const bf16 *w, int pairs,                   \
                         const epilogue *e, int row, int panel) {                                \
        __m512 sum[R][2];                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            sum[r][0] = sum[r][1] = _mm512_setzero_ps();                                         \
        for (int p = 0; p < pairs; p++, w += 2 * PANEL) {                                        \
            __m512bh first = (__m512bh)_mm512_loadu_si512(w);                                    \
            __m512bh second = (__m512bh)_mm512_loadu_si512(w + PANEL);                           \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                               \
                __m512bh x = PAIR(a + r * stride + 2 * p);                                       \
                sum[r][0] = _mm512_dpbf16_ps(sum[r][0], first, x);                               \
                sum[r][1] = _mm512_dpbf16_ps(sum[r][1], second, x);                              \
            }                                                                                    \
        }                                                                                        \
        int column = panel * PANEL;                                                              \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                                   \
            long at = (row + r) * e->stride + column;                                            \
            finish_lanes(e, at, column, sum[r][0]);                                              \
            finish_lanes(e, at + LANES, column + LANES, sum[r][1]);                              \
        }                                                                                        \
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

static inline int ceiling(int n, int by) { return (n + by - 1) / by; }

/* Pieces go through all panels for some rows, which stay in the cache, before the next rows. */
static int multiply(const member *me, int at, const matrix *m, const bf16 *a, epilogue e) {
    int rows = me->team->rows, panels = m->n / PANEL;
    int pieces = panels * ceiling(rows, ROWS_OF_PIECE);
    e.bias = m->bias;
    e.stride = m->n;
    for (int piece; (piece = claim(me, at, pieces)) >= 0; complete(me, at)) {
        int panel = piece % panels, row = piece / panels * ROWS_OF_PIECE;
        int end = row + ROWS_OF_PIECE < rows ? row + ROWS_OF_PIECE : rows;
        const bf16 *w = m->panels + (long)panel * PANEL * m->k;
        while (row < end) {
            int count = tile_rows(end - row);
            TILES[count](a + (long)row * m->k, m->k, w, m->k / 2, &e, row, panel);
            row += count;
        }
    }
    return settle(me, at, pieces);
}

/* ---------------------------------------------------------------- attention */

/* panels of 16 tokens, pairs of dimensions together; what is behind the last token is zero */
static void lay_keys(const bf16 *from, long stride, int tokens, int head, bf16 *to) {
    int padded = ceiling(tokens, LANES) * LANES;
    for (int t = 0; t < padded; t++) {
        uint32_t *panel = (uint32_t *)(to + (long)(t / LANES) * LANES * head) + t % LANES;
        const uint32_t *source = (const uint32_t *)(from + t * stride);
        for (int p = 0; p < head / 2; p++) panel[p * LANES] = t < tokens ? source[p] : 0;
    }
}

/* pairs of tokens together; the partner of a last odd one is zero */
static void lay_values(const bf16 *from, long stride, int tokens, int head, bf16 *to) {
    for (int t = 0; t < tokens; t += 2)
        for (int d = 0; d < head; d += LANES) {
            const bf16 *first = from + t * stride + d;
            __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)first));
            __m512i high = _mm512_setzero_si512();
            if (t + 1 < tokens)
                high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(first + stride)));
            __m512i both = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
            _mm512_storeu_si512(to + (long)t * head + 2 * d, both);
        }
}

#define SCORES(R)                                                                                \
    static void scores_##R(const bf16 *q, long stride, const bf16 *keys, int pairs, float *to,   \
                           long to_stride) {                                                     \
        __m512 sum[R];                                                                           \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) sum[r] = _mm512_setzero_ps();       \
        for (int p = 0; p < pairs; p++) {                                                        \
            __m512bh key = (__m512bh)_mm512_loadu_si512(keys + 2 * LANES * p);                   \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                 \
                sum[r] = _mm512_dpbf16_ps(sum[r], key, PAIR(q + r * stride + 2 * p));            \
        }                                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            _mm512_storeu_ps(to + r * to_stride, sum[r]);                                        \
    }
SCORES(1) SCORES(2) SCORES(3) SCORES(4) SCORES(5) SCORES(6) SCORES(7) SCORES(8) SCORES(9)
SCORES(10) SCORES(11) SCORES(12)
typedef void scoring(const bf16 *, long, const bf16 *, int, float *, long);
static scoring *const SCORINGS[] = {0, scores_1, scores_2, scores_3, scores_4, scores_5, scores_6,
                                    scores_7, scores_8, scores_9, scores_10, scores_11, scores_12};

/* 32 dimensions of the values, mixed by weights and multiplied by each row's factor */
#define MIX(R)                                                                                   \
    static void mix_##R(const bf16 *values, int head, const bf16 *weights, long stride,          \
                        int pairs, const float *factors, bf16 *to, long to_stride) {             \
        __m512 sum[R][2];                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            sum[r][0] = sum[r][1] = _mm512_setzero_ps();                                         \
        for (int p = 0; p < pairs; p++, values += 2 * head) {                                    \
            __m512bh first = (__m512bh)_mm512_loadu_si512(values);                               \
            __m512bh second = (__m512bh)_mm512_loadu_si512(values + PANEL);                      \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                               \
                __m512bh x = PAIR(weights + r * stride + 2 * p);                                 \
                sum[r][0] = _mm512_dpbf16_ps(sum[r][0], first, x);                               \
                sum[r][1] = _mm512_dpbf16_ps(sum[r][1], second, x);                              \
            }                                                                                    \
        }                                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                                   \
            __m512 factor = _mm512_set1_ps(factors[r]);                                          \
            store_narrowed(to + r * to_stride, _mm512_mul_ps(sum[r][0], factor));                \
            store_narrowed(to + r * to_stride + LANES, _mm512_mul_ps(sum[r][1], factor));        \
        }                                                                                        \
    }
MIX(1) MIX(2) MIX(3) MIX(4) MIX(5) MIX(6) MIX(7) MIX(8) MIX(9) MIX(10) MIX(11) MIX(12)
typedef void mixing(const bf16 *, int, const bf16 *, long, int, const float *, bf16 *, long);
static mixing *const MIXINGS[] = {0, mix_1, mix_2, mix_3, mix_4, mix_5, mix_6,
                                  mix_7, mix_8, mix_9, mix_10, mix_11, mix_12};

/* scores -> weights that are not yet divided by their sum; returns one by that sum */
static float softmax(float *scores, bf16 *weights, int tokens, int padded, float scale,
                     const float *nearness) {
    if (nearness) {
        __m512 factor = _mm512_set1_ps(scale);
        for (int i = 0; i < padded; i += LANES) {
            __m512 x = _mm512_loadu_ps(scores + i);
            _mm512_storeu_ps(scores + i, _mm512_fmadd_ps(x, factor, _mm512_loadu_ps(nearness + i)));
        }
        scale = 1.0f;
    }
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
    return 1.0f / _mm512_reduce_add_ps(sum);
}

/* one head of one text */
static void attend(team *t, int thread, int begin, int end, int head) {
    const model *m = t->model;
    int tokens = end - begin, padded = ceiling(tokens, LANES) * LANES;
    long stride = 3L * m->hidden;
    const bf16 *queries = t->qkv + begin * stride + (long)head * m->head;
    bf16 *keys = t->keys[thread], *values = t->values[thread], *weights = t->weights[thread];
    float *scores = t->scores[thread], factors[MOST_ROWS];
    const float *near = !m->nearness ? NULL
                        : m->nearness + head * (2 * m->reach + 1 + LANES) + m->reach;
    lay_keys(queries + m->hidden, stride, tokens, m->head, keys);
    lay_values(queries + 2L * m->hidden, stride, tokens, m->head, values);
    for (int row = 0, count; row < tokens; row += count) {
        count = tile_rows(tokens - row);
        for (int at = 0; at < tokens; at += LANES)
            SCORINGS[count](queries + row * stride, stride, keys + (long)at * m->head, m->head / 2,
                            scores + at, padded);
        for (int r = 0; r < count; r++)
            factors[r] = softmax(scores + (long)r * padded, weights + (long)r * padded, tokens,
                                 padded, m->scale, near ? near - row - r : NULL);
        bf16 *to = t->narrow + (long)(begin + row) * m->hidden + (long)head * m->head;
        for (int column = 0; column < m->head; column += PANEL)
            MIXINGS[count](values + 2 * column, m->head, weights, padded, ceiling(tokens, 2),
                           factors, to + column, m->hidden);
    }
}

static int attend_all(const member *me, int at) {
    team *t = me->team;
    int heads = t->model->heads, pieces = t->texts * heads;
    for (int piece; (piece = claim(me, at, pieces)) >= 0; complete(me, at)) {
        const int32_t *begin = t->batch->begin + piece / heads;
        attend(t, me->thread, begin[0], begin[1], piece % heads);
    }
    return settle(me, at, pieces);
}

/* ---------------------------------------------------------------- what is done row by row */

static void normalize(float *x, const norm *by, int n, float epsilon, bf16 *narrow) {
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int i = 0; i < n; i += LANES) sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + i));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / n);
    for (int i = 0; i < n; i += LANES) {
        __m512 v = _mm512_sub_ps(_mm512_loadu_ps(x + i), mean);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    __m512 factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / n + epsilon));
    for (int i = 0; i < n; i += LANES) {
        __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), mean), factor);
        v = _mm512_fmadd_ps(v, _mm512_loadu_ps(by->weight + i), _mm512_loadu_ps(by->bias + i));
        _mm512_storeu_ps(x + i, v);
        store_narrowed(narrow + i, v);
    }
}

static void embed(const model *m, const batch *b, int row, float *to) {
    const float *word = m->words + (long)b->token[row] * m->hidden;
    const float *position = m->positions + (long)b->position[row] * m->hidden;
    for (int i = 0; i < m->hidden; i += LANES) {
        __m512 x = _mm512_loadu_ps(word + i);
        if (m->kind) x = _mm512_add_ps(x, _mm512_loadu_ps(m->kind + i));
        _mm512_storeu_ps(to + i, _mm512_add_ps(x, _mm512_loadu_ps(position + i)));
    }
}

/* Sums of the products before are in x; or, `embeds`, nothing yet. */
static int normalize_all(const member *me, int at, const norm *by, int embeds) {
    team *t = me->team;
    const model *m = t->model;
    int pieces = ceiling(t->rows, ROWS_OF_NORM);
    for (int piece; (piece = claim(me, at, pieces)) >= 0; complete(me, at)) {
        int row = piece * ROWS_OF_NORM, left = t->rows - row;
        int end = row + (left < ROWS_OF_NORM ? left : ROWS_OF_NORM);
        for (; row < end; row++) {
            float *x = t->x + (long)row * m->hidden;
            if (embeds) embed(m, t->batch, row, x);
            normalize(x, by, m->hidden, m->epsilon, t->narrow + (long)row * m->hidden);
        }
    }
    return settle(me, at, pieces);
}

/* ---------------------------------------------------------------- a step */

enum { PHASES_OF_A_LAYER = 7 };

static int compute_layer(const member *me, int at, const layer *l) {
    team *t = me->team;
    epilogue qkv = {.effect = NARROW, .narrow = t->qkv};
    epilogue add = {.effect = ADD, .wide = t->x};
    epilogue up = {.effect = ACTIVATE, .activation = t->model->activation, .narrow = t->inner};
    return multiply(me, at, &l->qkv, t->narrow, qkv)
        && attend_all(me, at + 1)
        && multiply(me, at + 2, &l->out, t->narrow, add)
        && normalize_all(me, at + 3, &l->attended, 0)
        && multiply(me, at + 4, &l->up, t->narrow, up)
        && multiply(me, at + 5, &l->down, t->inner, add)
        && normalize_all(me, at + 6, &l->finished, 0);
}

/* A member that comes late finds everything done, and leaves as soon as the next step has begun;
 * it touches nothing of a batch without a piece, because only with one is the batch still there. */
static void run(const member *me) {
    const model *m = me->team->model;
    if (!normalize_all(me, 0, &m->embedded, 1)) return;
    for (int i = 0; i < m->layers; i++)
        if (!compute_layer(me, 1 + i * PHASES_OF_A_LAYER, &m->layer[i])) return;
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

team *encoder_start(const model *m, int threads, int most_rows, int longest) {
    team *t = room(sizeof *t);
    long padded = ceiling(longest, LANES) * LANES;
    t->model = m;
    t->threads = threads;
    t->phases = 1 + PHASES_OF_A_LAYER * m->layers;
    t->narrow = room(sizeof(bf16) * most_rows * m->hidden);
    t->qkv = room(sizeof(bf16) * most_rows * 3 * m->hidden);
    t->inner = room(sizeof(bf16) * most_rows * m->intermediate);
    t->phase = room(sizeof(phase) * t->phases);
    t->scores = room(sizeof(float *) * threads);
    t->weights = room(sizeof(bf16 *) * threads);
    t->keys = room(sizeof(bf16 *) * threads);
    t->values = room(sizeof(bf16 *) * threads);
    t->thread = room(sizeof(pthread_t) * threads);
    for (int i = 0; i < threads; i++) {
        t->scores[i] = room(sizeof(float) * MOST_ROWS * padded);
        t->weights[i] = room(sizeof(bf16) * MOST_ROWS * padded);
        t->keys[i] = room(sizeof(bf16) * padded * m->head);
        t->values[i] = room(sizeof(bf16) * padded * m->head);
    }
    for (int i = 1; i < threads; i++) {
        member *made = malloc(sizeof *made);
        *made = (member){.team = t, .thread = i};
        pthread_create(&t->thread[i], NULL, work, made);
    }
    return t;
}

void encoder_step(team *t, const batch *b) {
    uint32_t step = atomic_load(&t->step) + 1;
    for (int i = 0; i < t->phases; i++) { /* members of the old step can take nothing any more */
        atomic_store(&t->phase[i].next, (unsigned long long)step << 32);
        atomic_store(&t->phase[i].done, (unsigned long long)step << 32);
    }
    t->batch = b;
    t->x = b->vectors;
    t->rows = b->rows;
    t->texts = b->texts;
    atomic_store(&t->step, step);
    if (atomic_load(&t->sleeping)) futex(&t->step, FUTEX_WAKE, t->threads);
    run(&(member){.team = t, .step = step});
}

void encoder_stop(team *t) {
    t->stop = 1;
    atomic_fetch_add(&t->step, 1);
    futex(&t->step, FUTEX_WAKE, t->threads);
    for (int i = 1; i < t->threads; i++) pthread_join(t->thread[i], NULL);
    for (int i = 0; i < t->threads; i++)
        free(t->scores[i]), free(t->weights[i]), free(t->keys[i]), free(t->values[i]);
    free(t->narrow), free(t->qkv), free(t->inner), free(t->phase), free(t->scores);
    free(t->weights), free(t->keys), free(t->values), free(t->thread), free(t);
}

/* [n][k] -> panels */
void encoder_pack(const bf16 *from, int n, int k, bf16 *to) {
    for (int column = 0; column < n; column++) {
        uint32_t *pairs = (uint32_t *)(to + (long)(column / PANEL) * PANEL * k) + column % PANEL;
        const uint32_t *source = (const uint32_t *)(from + (long)column * k);
        for (int p = 0; p < k / 2; p++) pairs[(long)p * PANEL] = source[p];
    }
}
