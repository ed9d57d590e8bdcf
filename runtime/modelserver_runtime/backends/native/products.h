/* Products of rows with a matrix of weights, by a team.
 *
 * Who includes this has defined `epilogue`; `finish(epilogue, row, panel, first, second)`, which takes
 * the sums of a row and a panel: 16 columns and 16 more; and `unpacked_of(member)`, memory of the
 * thread's own for a panel of pairs.
 */
#ifndef PRODUCTS_H
#define PRODUCTS_H
#include "matrix.h"
#include "team.h"

/* Rows of a piece of a product: with 1,536 columns 590 KB, which most second-level caches hold. */
enum { ROWS_OF_PIECE = 192 };
/* Bytes of weights that are asked of memory before they are needed: 16 pairs of rows of bf16. */
enum { AHEAD = 2048 };
/* Rows whose sums are in registers at once, and vectors of a panel's two: with 32 registers of 16
 * floats 24 sums and 2 vectors of weights; with 16 of 8 floats there is room for 4 sums. */
#if defined(__AVX512F__)
enum { ROWS_OF_TILE = 12, SIDES = 2 };
#else
enum { ROWS_OF_TILE = 4, SIDES = 1 };
#endif

/* WEIGHT numbers lie at `panel_at`; LOAD makes pairs of bf16 of them. */
#define TILE(NAME, R, WEIGHT, LOAD)                                                              \
    static void NAME##_##R(const bf16 *a, const matrix *m, const WEIGHT *panel_at,               \
                           const epilogue *e, int row, int panel) {                              \
        v16 sum[R][2];                                                                           \
        int k = m->k;                                                                            \
        _Pragma("GCC unroll 2") for (int side = 0; side < 2; side += SIDES) {                    \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                 \
                _Pragma("GCC unroll 2") for (int i = 0; i < SIDES; i++)                          \
                    sum[r][side + i] = zeros();                                                  \
            const WEIGHT *w = panel_at + side * PANEL;                                           \
            for (int p = 0; p < k; p += 2, w += 2 * PANEL) {                                     \
                twin weights[SIDES];                                                             \
                _Pragma("GCC unroll 2") for (int i = 0; i < SIDES; i++) {                        \
                    prefetch((const char *)(w + i * PANEL) + AHEAD);                             \
                    weights[i] = LOAD(w + i * PANEL);                                            \
                }                                                                                \
                _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                           \
                    twin x = spread_twin(a + (long)r * k + p);                                   \
                    _Pragma("GCC unroll 2") for (int i = 0; i < SIDES; i++)                      \
                        sum[r][side + i] = dot(sum[r][side + i], weights[i], x);                 \
                }                                                                                \
            }                                                                                    \
        }                                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                                   \
            complete_sums(m, panel, &sum[r][0], &sum[r][1]);                                     \
            finish(e, row + r, panel, sum[r][0], sum[r][1]);                                     \
        }                                                                                        \
    }
#define TILES_4(NAME, WEIGHT, LOAD)                                                              \
    TILE(NAME, 1, WEIGHT, LOAD) TILE(NAME, 2, WEIGHT, LOAD) TILE(NAME, 3, WEIGHT, LOAD)          \
    TILE(NAME, 4, WEIGHT, LOAD)
#if defined(__AVX512F__)
#define TILES(NAME, WEIGHT, LOAD)                                                                \
    TILES_4(NAME, WEIGHT, LOAD)                                                                  \
    TILE(NAME, 5, WEIGHT, LOAD) TILE(NAME, 6, WEIGHT, LOAD) TILE(NAME, 7, WEIGHT, LOAD)          \
    TILE(NAME, 8, WEIGHT, LOAD) TILE(NAME, 9, WEIGHT, LOAD) TILE(NAME, 10, WEIGHT, LOAD)         \
    TILE(NAME, 11, WEIGHT, LOAD) TILE(NAME, 12, WEIGHT, LOAD)                                    \
    static NAME##s *const NAME##_of[] = {0, NAME##_1, NAME##_2, NAME##_3, NAME##_4, NAME##_5,    \
                                       NAME##_6, NAME##_7, NAME##_8, NAME##_9, NAME##_10,        \
                                       NAME##_11, NAME##_12};
#else
#define TILES(NAME, WEIGHT, LOAD)                                                                \
    TILES_4(NAME, WEIGHT, LOAD)                                                                  \
    static NAME##s *const NAME##_of[] = {0, NAME##_1, NAME##_2, NAME##_3, NAME##_4};
#endif
typedef void tiles(const bf16 *, const matrix *, const bf16 *, const epilogue *, int, int);
typedef void integer_tiles(const bf16 *, const matrix *, const int8_t *, const epilogue *, int, int);
TILES(tile, bf16, load_twin)
TILES(integer_tile, int8_t, twin_of_integers)

static inline int ceiling(int n, int by) { return (n + by - 1) / by; }

/* rows that are left over after full tiles are spread: 13 rows are 7 and 6, not 12 and 1 */
static inline int spread_rows(int left, int most) {
    return ceiling(left, ceiling(left, most));
}

/* a panel for some rows, as few as a tile has, or as a piece has */
static void multiply_panel(const member *me, const matrix *m, const bf16 *a, int row, int end,
                           const epilogue *e, int panel) {
    long at = (long)panel * PANEL * m->k;
    if (m->integers && end - row <= ROWS_OF_TILE) {
        integer_tile_of[end - row](a + (long)row * m->k, m, m->integers + at, e, row, panel);
        return;
    }
    const bf16 *w = m->integers ? unpacked_of(me) : m->panels + at;
    if (m->integers) /* once for all rows; it stays in the thread's own cache */
        for (long i = 0; i < (long)PANEL * m->k; i += 2 * LANES)
            store_pairs(unpacked_of(me) + i, m->integers + at + i);
    for (int count; row < end; row += count) {
        count = spread_rows(end - row, ROWS_OF_TILE);
        tile_of[count](a + (long)row * m->k, m, w, e, row, panel);
    }
}

/* Pieces go through all panels for some rows, which stay in the cache, before the next rows. */
static int multiply(const member *me, int at, const matrix *m, const bf16 *a, int rows,
                    const epilogue *e) {
    int panels = ceiling(m->n, PANEL), pieces = panels * ceiling(rows, ROWS_OF_PIECE);
    for (int piece; (piece = claim(me, at, pieces)) >= 0; complete(me, at)) {
        int row = piece / panels * ROWS_OF_PIECE;
        int end = row + ROWS_OF_PIECE < rows ? row + ROWS_OF_PIECE : rows;
        multiply_panel(me, m, a, row, end, e, piece % panels);
    }
    return settle(me, at, pieces);
}

/* [n][k] -> panels; columns beyond n are zero */
static void pack(const bf16 *from, int n, int k, bf16 *to) {
    for (int column = 0; column < ceiling(n, PANEL) * PANEL; column++) {
        uint32_t *pairs = (uint32_t *)(to + (long)(column / PANEL) * PANEL * k) + column % PANEL;
        const uint32_t *source = (const uint32_t *)(from + (long)column * k);
        for (int p = 0; p < k / 2; p++) pairs[(long)p * PANEL] = column < n ? source[p] : 0;
    }
}

#endif
