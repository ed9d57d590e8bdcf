/* A matrix of weights, as Python hands it over.
 *
 * Weights lie in panels of 32 columns, pairs of rows together, as the instruction takes them:
 *     panel[n / 32][k / 2][n % 32][k % 2]
 * Those of 8 bits lie so that they become such pairs with the fewest instructions:
 *     panel[n / 32][k / 2][n % 32 / 16][k % 2][n % 16]
 */
#ifndef MATRIX_H
#define MATRIX_H
#include "vectors.h"

typedef struct {
    int32_t n, k;              /* columns and rows; k is even */
    const bf16 *panels;        /* or, in place of them, */
    const int8_t *integers;
    const float *scales, *bias; /* of each column of the panels: factors of integers; or NULL */
} matrix;

/* what integers and bias make of the sums of a row and a panel */
INLINE void complete_sums(const matrix *m, int panel, v16 *first, v16 *second) {
    long at = (long)panel * PANEL;
    if (m->scales) {
        *first *= load(m->scales + at);
        *second *= load(m->scales + at + LANES);
    }
    if (m->bias) {
        *first += load(m->bias + at);
        *second += load(m->bias + at + LANES);
    }
}

#endif
