#include "fuzzer.h"

#include <math.h>

static const uint8_t *next, *end;

void input_begin(const uint8_t *data, size_t size) {
    next = data;
    end = data + size;
}

bool input_is_over(void) {
    return next == end;
}

uint8_t byte(void) {
    return next == end ? 0 : *next++;
}

int below(int bound) {
    int number = byte();
    if (bound > 256) number = number << 8 | byte();
    return number % bound;
}

bool one_in(int n) {
    return below(n) == n - 1;
}

uint64_t bits64(void) {
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits = bits << 8 | byte();
    return bits;
}

double real(void) {
    static const double special[] = {0,         -0.0,  1,    -1,   1e-9,    1e9,     -1e-9,  1e-300,
                                     0x1p-1074, 1e300, 1e38, 1e39, INFINITY, -INFINITY, NAN, 0x1p-149};
    int choice = byte();
    return choice < 192 ? (choice - 64) / 64.0 : special[choice % COUNT(special)];
}
