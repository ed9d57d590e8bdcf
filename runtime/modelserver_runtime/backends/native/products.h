/* Products of rows with a matrix of weights, by a team.
 *
 * Weights lie in panels of 32 columns, pairs of rows together, as the instruction takes them:
 *     panel[n / 32][k / 2][n % 32][k % 2]
 * Who includes this has defined `matrix`, with n columns and k rows, which are even, and `panels`;
 * `epilogue`, and `finish(epilogue, row, panel, first, second)`, which takes the sums of a row and a
 * panel: 16 columns and 16 more.
 */
#ifndef PRODUCTS_H
#define PRODUCTS_H
#include "team.h"
#include "vectors.h"

/* Rows of a piece of a product: with 1,536 columns 590 KB, which most second-level caches hold. */
enum { ROWS_OF_PIECE = 192 };
/* Rows whose sums are in registers at once, and vectors of a panel's two: with 32 registers of 16
 * floats 24 sums and 2 vectors of weights; with 16 of 8 floats there is room for 4 sums. */
#if defined(__AVX512F__)
enum { ROWS_OF_TILE = 12, SIDES = 2 };
#else
enum { ROWS_OF_TILE = 4, SIDES = 1 };
#endif

#define TILE(R)                                                                                  \
    static void tile_##R(const bf16 *a, long stride, const bf16 *panel_at, int pairs,            \
                         const epilogue *e, int row, int panel) {                                \
        v16 sum[R][2];                                                                           \
        _Pragma("GCC unroll 2") for (int side = 0; side < 2; side += SIDES) {                    \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                 \
                _Pragma("GCC unroll 2") for (int i = 0; i < SIDES; i++)                          \
                    sum[r][side + i] = zeros();                                                  \
            const bf16 *w = panel_at + side * PANEL;                                             \
            for (int p = 0; p < pairs; p++, w += 2 * PANEL) {                                    \
                twin weights[SIDES];                                                             \
                _Pragma("GCC unroll 2") for (int i = 0; i < SIDES; i++) {                        \
                    prefetch(w + 2 * PANEL * 16 + i * PANEL);                                    \
                    weights[i] = load_twin(w + i * PANEL);                                       \
                }                                                                                \
                _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                           \
                    twin x = spread_twin(a + r * stride + 2 * p);                                \
                    _Pragma("GCC unroll 2") for (int i = 0; i < SIDES; i++)                      \
                        sum[r][side + i] = dot(sum[r][side + i], weights[i], x);                 \
                }                                                                                \
            }                                                                                    \
        }                                                                                        \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++)                                     \
            finish(e, row + r, panel, sum[r][0], sum[r][1]);                                     \
    }
typedef void tile(const bf16 *, long, const bf16 *, int, const epilogue *, int, int);
TILE(1) TILE(2) TILE(3) TILE(4)
#if defined(__AVX512F__)
TILE(5) TILE(6) TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
static tile *const TILES[] = {0, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6,
                              tile_7, tile_8, tile_9, tile_10, tile_11, tile_12};
#else
static tile *const TILES[] = {0, tile_1, tile_2, tile_3, tile_4};
#endif

static inline int ceiling(int n, int by) { return (n + by - 1) / by; }

/* rows that are left over after full tiles are spread: 13 rows are 7 and 6, not 12 and 1 */
static inline int spread_rows(int left, int most) {
    return ceiling(left, ceiling(left, most));
}

/* Pieces go through all panels for some rows, which stay in the cache, before the next rows. */
static int multiply(const member *me, int at, const matrix *m, const bf16 *a, int rows,
                    const epilogue *e) {
    int panels = ceiling(m->n, PANEL), pieces = panels * ceiling(rows, ROWS_OF_PIECE);
    for (int piece; (piece = claim(me, at, pieces)) >= 0; complete(me, at)) {
        int panel = piece % panels, row = piece / panels * ROWS_OF_PIECE;
        int end = row + ROWS_OF_PIECE < rows ? row + ROWS_OF_PIECE : rows;
        const bf16 *w = m->panels + (long)panel * PANEL * m->k;
        while (row < end) {
            int count = spread_rows(end - row, ROWS_OF_TILE);
            TILES[count](a + (long)row * m->k, m->k, w, m->k / 2, e, row, panel);
            row += count;
        }
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
