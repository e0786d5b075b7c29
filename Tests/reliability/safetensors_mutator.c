/* Changes safetensors as one would who knows the format: the header's tokens, also those of the JSON that stands in a
 * string of it, with the length before the header put right; and now and then any byte at all. */
#include "fuzz.h"

#include <string.h>

static uint32_t state;

static size_t below(size_t bound) {
    state = state * 1664525u + 1013904223u;
    return bound ? (state >> 8) % bound : 0;
}

static const char *const words[] = {
    "0", "1", "2", "3", "-1", "0.5", "1e400", "1e-400", "01", "4", "8", "24", "2147483648", "4294967296",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "{", "}", "[", "]", ",", ":", "\"", "\\",
    "\\\"", "\\u0000", "\\ud800", "\\ud83d\\ude00", "\xc3\xa9", "\xed\xa0\x80", "null", "true", "false", "{}", "[]",
    "\"F32\"", "\"F64\"", "\"I64\"", "\"BF16\"", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\"",
    "\"weight\"", "\"bias\"", "\"mean\"", "\"scale\"", "\"0.weight\"", "\"2.bias\"", "\"pente\"", "\"\"",
    "\"sgd.0.weight.momentum_buffer\"", "\\\"linear\\\"", "\\\"chain\\\"", "\\\"scaler\\\"", "\\\"relu\\\"",
    "\\\"tanh\\\"", "\\\"leaky_relu\\\"", "\\\"custom\\\"", "\\\"layers\\\"", "\\\"type\\\"", "\\\"in_features\\\"",
    "\\\"out_features\\\"", "\\\"features\\\"", "\\\"bias\\\"", "\\\"negative_slope\\\"", "\\\"sgd\\\"",
    "\\\"groups\\\"", "\\\"step_count\\\"", "\\\"lr\\\"", "\\\"momentum\\\"", "\\\"nesterov\\\"", "\\\"float64\\\"",
    ",\"x\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}",
};

static int kind(uint8_t byte) {
    if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') return 1;
    if ((byte >= '0' && byte <= '9') || byte == '.' || byte == '_') return 1;
    return byte == '\\' ? 2 : 0;
}

/* A token of the header from a place of it on; a backslash and its quote are one. */
static size_t token(const uint8_t *header, size_t length, size_t at) {
    size_t end = at + 1;
    if (kind(header[at]) == 2) return end < length ? 2 : 1;
    while (kind(header[at]) == 1 && end < length && kind(header[end]) == 1) end++;
    return end - at;
}

/* An object or an array, if one begins there, up to its end; or else a token. */
static size_t value(const uint8_t *header, size_t length, size_t at) {
    size_t depth = 0;
    for (size_t end = at; end < length; end++) {
        if (header[end] == '{' || header[end] == '[') depth++;
        if ((header[end] == '}' || header[end] == ']') && depth > 0) depth--;
        if (depth == 0) return end == at ? token(header, length, at) : end + 1 - at;
    }
    return token(header, length, at);
}

/* The start of a token, near a place drawn at random. */
static size_t place(const uint8_t *header, size_t length) {
    size_t at = below(length);
    while (at > 0 && kind(header[at]) == 1 && kind(header[at - 1]) == 1) at--;
    return at;
}

/* Puts text in the place of some bytes at `at`; returns the new size, or the old one if there is no room. */
static size_t replace(uint8_t *data, size_t size, size_t capacity, size_t at, size_t old, const void *text, size_t new) {
    if (size - old + new > capacity) return size;
    memmove(data + at + new, data + at + old, size - at - old);
    memcpy(data + at, text, new);
    return size - old + new;
}

static size_t change_token(uint8_t *data, size_t size, size_t capacity, size_t length) {
    uint8_t *header = data + 8, copy[4096];
    size_t at = place(header, length), old = below(3) ? token(header, length, at) : value(header, length, at);
    size_t from = place(header, length), new = below(2) ? token(header, length, from) : value(header, length, from);
    const char *word = words[below(sizeof words / sizeof *words)];
    if (new > sizeof copy) new = sizeof copy;
    memcpy(copy, header + from, new);
    switch (below(6)) {
    case 0: return replace(data, size, capacity, 8 + at, old, "", 0);
    case 1: return replace(data, size, capacity, 8 + at, old, copy, new);
    case 2: return replace(data, size, capacity, 8 + at, 0, copy, new);
    case 3: return replace(data, size, capacity, 8 + at, 0, word, strlen(word));
    case 4: return replace(data, size, capacity, 8 + at, old, word, strlen(word));
    default: /* a number a little larger or smaller */
        while (at < length && (header[at] < '0' || header[at] > '9')) at++;
        if (at < length) header[at] = (uint8_t)('0' + below(10));
        return size;
    }
}

static uint64_t length_of(const uint8_t *data) {
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | data[i];
    return length;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed) {
    state = seed;
    uint64_t length = size >= 8 ? length_of(data) : 0;
    if (length == 0 || length > size - 8 || below(8) == 0) return LLVMFuzzerMutate(data, size, capacity);
    size_t numbers = size - 8 - (size_t)length, now;
    if (below(16) == 0) { /* more or fewer numbers, or others */
        size_t room = capacity - 8 - (size_t)length;
        return 8 + (size_t)length + LLVMFuzzerMutate(data + 8 + length, numbers, room);
    }
    if (below(16) == 0) { /* bytes of the header */
        uint8_t *header = malloc(capacity);
        if (!header) return size;
        memcpy(header, data + 8, (size_t)length);
        size_t new = LLVMFuzzerMutate(header, (size_t)length, capacity - 8 - numbers);
        now = replace(data, size, capacity, 8, (size_t)length, header, new);
        free(header);
    } else {
        now = change_token(data, size, capacity, (size_t)length);
    }
    length = now - 8 - numbers;
    if (below(64) > 0)
        for (int i = 0; i < 8; i++) data[i] = (uint8_t)(length >> (8 * i));
    return now;
}
