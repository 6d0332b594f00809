// Holds deploy/memory.c, whose functions are named `moved` and `copied` here, against a loop.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *moved(void *to, const void *from, size_t size);
void *copied(void *to, const void *from, size_t size);

#define ROOM 20000

static uint8_t before[ROOM], expected[ROOM], found[ROOM];
static unsigned long checked;

static void check(const char *name, void *(*function)(void *, const void *, size_t), size_t to, size_t from,
                  size_t size) {
  memcpy(found, before, ROOM);
  memcpy(expected, before, ROOM);
  for (size_t at = 0; at < size; at++) {
    expected[to + at] = before[from + at];
  }
  void *said = function(found + to, found + from, size);
  checked++;
  if (said != found + to || memcmp(found, expected, ROOM) != 0) {
    printf("%s of %zu bytes from %zu to %zu is wrong\n", name, size, from, to);
    exit(1);
  }
}

// Every distance at which the two places could overlap in another way, both ways, and some places that
// are apart.
static void check_size(size_t size) {
  const size_t middle = ROOM / 2;
  for (size_t start = middle; start < middle + 3; start++) {
    for (size_t distance = 0; distance < 140; distance++) {
      check("memmove", moved, start, start + distance, size);
      check("memmove", moved, start + distance, start, size);
    }
    for (size_t beyond = 0; beyond < 17; beyond++) {
      size_t apart = start - size - beyond;
      check("memmove", moved, apart, start, size);
      check("memmove", moved, start, apart, size);
      check("memcpy", copied, apart, start, size);
      check("memcpy", copied, start, apart, size);
    }
  }
}

int main(void) {
  srand(1);
  for (size_t at = 0; at < ROOM; at++) {
    before[at] = (uint8_t)rand();
  }
  for (size_t size = 0; size <= 200; size++) {
    check_size(size);
  }
  static const size_t longer[] = {255, 256, 257, 1023, 1999, 2047, 2048, 2049, 4096, 8191};
  for (size_t index = 0; index < sizeof longer / sizeof *longer; index++) {
    check_size(longer[index]);
  }
  printf("%lu copies are right\n", checked);
  return 0;
}
