/* What the loads share: clocks, the CPU time of the server, latencies, the connections, the text of the lines. */

#ifndef LOAD_H
#define LOAD_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Latency in microseconds, one count each; what is slower counts in the last. */
#define SLOTS (1 << 20)
#define SERVERS_MAX 16
/* Not every load needs it. */
#define UNUSED __attribute__((unused))

static uint32_t latency[SLOTS];
static clockid_t servers[SERVERS_MAX];
static size_t server_count;

static void die(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t nanoseconds(clockid_t clock) {
  struct timespec t;
  if (clock_gettime(clock, &t) != 0) die("clock_gettime");
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Process ids with commas in between: a server may be several processes. */
static void name_servers(char *list) {
  for (char *pid = strtok(list, ","); pid != NULL && server_count < SERVERS_MAX; pid = strtok(NULL, ","))
    if ((errno = clock_getcpuclockid((pid_t)atoi(pid), &servers[server_count++])) != 0) die("clock_getcpuclockid");
}

/* User and system, all threads, exact to the nanosecond: /proc/PID/stat counts in steps of 10 ms. */
static uint64_t server_cpu(void) {
  uint64_t sum = 0;
  for (size_t i = 0; i < server_count; i++) sum += nanoseconds(servers[i]);
  return sum;
}

static void count_latency(uint64_t ns) {
  const uint64_t us = ns / 1000;
  latency[us < SLOTS ? us : SLOTS - 1]++;
}

static double percentile(uint64_t count, double share) {
  uint64_t seen = 0;
  for (size_t i = 0; i < SLOTS; i++) {
    seen += latency[i];
    if ((double)seen >= (double)count * share && seen > 0) return (double)i;
  }
  return 0;
}

static void report(uint64_t messages, uint64_t latencies, uint64_t ns, uint64_t cpu) {
  printf("{\"messages\":%llu,\"seconds\":%.6f,\"cpuSeconds\":%.9f,\"p50Us\":%.0f,\"p99Us\":%.0f,\"p999Us\":%.0f}\n",
         (unsigned long long)messages, (double)ns / 1e9, (double)cpu / 1e9, percentile(latencies, 0.5),
         percentile(latencies, 0.99), percentile(latencies, 0.999));
}

UNUSED static int connect_to(const char *port) {
  const int one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

static char rot13(char c) {
  if ((c >= 'a' && c <= 'm') || (c >= 'A' && c <= 'M')) return c + 13;
  if ((c >= 'n' && c <= 'z') || (c >= 'N' && c <= 'Z')) return c - 13;
  return c;
}

static uint32_t next_random(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

/* "64", or "64-61440": the same number twice, or two. */
UNUSED static void read_range(const char *word, size_t *least, size_t *most) {
  char *end;
  *least = strtoul(word, &end, 10);
  *most = *end == '-' ? strtoul(end + 1, NULL, 10) : *least;
}

/* Each power of two is as likely as every other, so that small messages are not lost among large ones. */
static size_t draw_size(size_t least, size_t most, uint32_t *state) {
  size_t octaves = 1;
  while (least << octaves <= most) octaves++;
  for (;;) {
    const size_t from = least << next_random(state) % octaves;
    const size_t size = from + next_random(state) % from;
    if (size <= most) return size;
  }
}

/* The text of the messages and of their replies; message i has the bytes from offsets[i] to offsets[i + 1]. */
static char *text, *expected;
static size_t *offsets;

/*
 * Makes `distinct` messages, or as many as fit into `bytes_max`, and behind them the first ones again, so that each batch
 * is one piece of memory. They differ, so that a reply for another message, or another connection, is noticed.
 *
 *   rot13   lines, answered by the same letters 13 places on
 *   echo    lines, answered by themselves
 *   frames  a length of 4 bytes, big-endian, and so many letters; answered by themselves
 */
static size_t make_text(size_t least, size_t most, size_t distinct, size_t bytes_max, size_t in_flight, const char *kind) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,";
  const int frames = strcmp(kind, "frames") == 0, rotate = strcmp(kind, "rot13") == 0;
  uint32_t state = 12345;
  size_t count = 0;
  offsets = calloc(distinct + in_flight + 1, sizeof *offsets);
  if (offsets == NULL) die("calloc");
  while (count < distinct) {
    const size_t size = least == most ? least : draw_size(least, most, &state);
    if (count > 0 && offsets[count] + size > bytes_max) break;
    offsets[count + 1] = offsets[count] + size;
    count++;
  }
  for (size_t i = 0; i < in_flight; i++)
    offsets[count + i + 1] = offsets[count + i] + offsets[i % count + 1] - offsets[i % count];
  text = malloc(offsets[count + in_flight]);
  expected = malloc(offsets[count + in_flight]);
  if (text == NULL || expected == NULL) die("malloc");
  for (size_t i = 0; i < count + in_flight; i++) {
    char *to = text + offsets[i];
    const size_t size = offsets[i + 1] - offsets[i];
    if (i >= count) memcpy(to, text + offsets[(i - count) % count], size);
    else {
      for (size_t at = 0; at < size; at++) to[at] = letters[next_random(&state) % (sizeof letters - 1)];
      if (frames)
        for (size_t at = 0; at < 4; at++) to[at] = (char)((size - 4) >> (24 - 8 * at));
      else to[size - 1] = '\n';
    }
    for (size_t at = 0; at < size; at++) expected[offsets[i] + at] = rotate ? rot13(to[at]) : to[at];
  }
  return count;
}

#endif
