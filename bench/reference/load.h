/* What load.c and churn.c share: clocks, the CPU time of the server, latencies, the text of the lines. */

#ifndef LOAD_H
#define LOAD_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Latency in microseconds, one count each; what is slower counts in the last. */
#define SLOTS (1 << 20)
#define SERVERS_MAX 16

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
  printf("{\"messages\":%llu,\"seconds\":%.6f,\"cpuSeconds\":%.9f,\"p50Us\":%.0f,\"p99Us\":%.0f}\n",
         (unsigned long long)messages, (double)ns / 1e9, (double)cpu / 1e9, percentile(latencies, 0.5),
         percentile(latencies, 0.99));
}

static char rot13(char c) {
  if ((c >= 'a' && c <= 'm') || (c >= 'A' && c <= 'M')) return c + 13;
  if ((c >= 'n' && c <= 'z') || (c >= 'N' && c <= 'Z')) return c - 13;
  return c;
}

/*
 * `distinct` lines, and again as many as a batch has, so that each batch is one piece of memory. They differ, so that a
 * reply for another line, or another connection, is noticed.
 */
static void make_text(char **text, char **expected, size_t distinct, size_t in_flight, size_t line_bytes, int echo) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,";
  const size_t bytes = (distinct + in_flight) * line_bytes;
  uint32_t state = 12345;
  *text = malloc(bytes);
  *expected = malloc(bytes);
  if (*text == NULL || *expected == NULL) die("malloc");
  for (size_t i = 0; i < bytes; i++) {
    state = state * 1664525u + 1013904223u;
    (*text)[i] = i / line_bytes >= distinct ? (*text)[i - distinct * line_bytes]
                 : i % line_bytes == line_bytes - 1 ? '\n'
                                                    : letters[(state >> 16) % (sizeof letters - 1)];
    (*expected)[i] = echo ? (*text)[i] : rot13((*text)[i]);
  }
}

#endif
