// memcpy and memmove for the image's program on x86-64.
//
// musl's copy with `rep movs`, which takes dozens of cycles to begin and, backwards, moves one byte a
// cycle. Most copies of a review are of a few bytes, and they were a tenth of its time. Here short
// copies are two loads and two stores that may overlap, and long ones go by 64 bytes; all of a short
// piece is loaded before any of it is stored, so both functions are one.
//
// Only what every x86-64 has is used. deploy/program.sh links this; tests/image checks it.

#include <stddef.h>
#include <stdint.h>

typedef uint16_t two __attribute__((aligned(1), may_alias));
typedef uint32_t four __attribute__((aligned(1), may_alias));
typedef uint64_t eight __attribute__((aligned(1), may_alias));
typedef uint8_t sixteen __attribute__((vector_size(16), aligned(1), may_alias));

// From here on the processor's own copy (`rep movsb`) is faster than a loop.
#define LONG 2048

// Moves the first and the last piece of that type, which cover everything or overlap.
#define ENDS(type)                                            \
  do {                                                        \
    type first = *(const type *)from;                         \
    type last = *(const type *)(from + size - sizeof(type));  \
    *(type *)to = first;                                      \
    *(type *)(to + size - sizeof(type)) = last;               \
  } while (0)

struct block {
  sixteen part[4];
};

static inline struct block load(const uint8_t *from) {
  const sixteen *part = (const sixteen *)from;
  return (struct block){{part[0], part[1], part[2], part[3]}};
}

static inline void store(uint8_t *to, struct block block) {
  sixteen *part = (sixteen *)to;
  part[0] = block.part[0];
  part[1] = block.part[1];
  part[2] = block.part[2];
  part[3] = block.part[3];
}

// More than 64 bytes.
static void move_blocks(uint8_t *to, const uint8_t *from, size_t size) {
  if ((uintptr_t)to - (uintptr_t)from >= size) {
    // Apart, or towards lower addresses: what is stored has been loaded.
    if (size >= LONG && (uintptr_t)from - (uintptr_t)to >= size) {
      __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
      return;
    }
    struct block last = load(from + size - sizeof last);
    uint8_t *end = to + size - sizeof last;
    for (; to < end; to += sizeof last, from += sizeof last) {
      store(to, load(from));
    }
    store(end, last);
  } else if (to != from) {
    struct block first = load(from);
    for (size_t left = size; left > sizeof first; left -= sizeof first) {
      store(to + left - sizeof first, load(from + left - sizeof first));
    }
    store(to, first);
  }
}

void *memmove(void *target, const void *source, size_t size) {
  uint8_t *to = target;
  const uint8_t *from = source;
  if (size > 64) {
    move_blocks(to, from, size);
  } else if (size > 32) {
    sixteen second = ((const sixteen *)from)[1];
    sixteen third = *(const sixteen *)(from + size - 32);
    ENDS(sixteen);
    ((sixteen *)to)[1] = second;
    *(sixteen *)(to + size - 32) = third;
  } else if (size >= 16) {
    ENDS(sixteen);
  } else if (size >= 8) {
    ENDS(eight);
  } else if (size >= 4) {
    ENDS(four);
  } else if (size >= 2) {
    ENDS(two);
  } else if (size == 1) {
    *to = *from;
  }
  return target;
}

void *memcpy(void *restrict target, const void *restrict source, size_t size)
    __attribute__((alias("memmove")));
