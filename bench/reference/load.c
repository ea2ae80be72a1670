/*
 * The load of `npm run bench -- rot13`: many connections, each with a fixed number of lines in flight, every byte of
 * every reply compared. One thread and one epoll, so that the server is what is measured; C, so that the load needs a
 * fraction of the server's CPU.
 *
 *   load PORT CONNECTIONS LINES_IN_FLIGHT LINE_BYTES WARMUP_MS MEASURE_MS SERVER_PID [rot13|echo]
 *
 * Prints one line of JSON. The server's CPU time is read from its process clock (user and system, all threads, exact to
 * the nanosecond) at both ends of the measured time: /proc/PID/stat counts in steps of 10 ms.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Different lines, so that a reply for another line, or another connection, is noticed. */
#define DISTINCT 997
/* Latency in microseconds, one count each; what is slower counts in the last. */
#define SLOTS (1 << 20)

struct connection {
  int fd;
  size_t first;    /* the line of the text with which its batch begins */
  size_t received; /* bytes of the reply */
  uint64_t sent_at;
};

static char *text, *expected;
static size_t line_bytes, batch_bytes;
static int echo; /* the reply is the line itself */
static uint32_t latency[SLOTS];

static void die(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t nanoseconds(clockid_t clock) {
  struct timespec t;
  if (clock_gettime(clock, &t) != 0) die("clock_gettime");
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static char rot13(char c) {
  if ((c >= 'a' && c <= 'm') || (c >= 'A' && c <= 'M')) return c + 13;
  if ((c >= 'n' && c <= 'z') || (c >= 'N' && c <= 'Z')) return c - 13;
  return c;
}

/* DISTINCT lines, and again as many as a batch has, so that each batch is one piece of memory. */
static void make_text(size_t in_flight) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,";
  const size_t lines = DISTINCT + in_flight;
  uint32_t state = 12345;
  text = malloc(lines * line_bytes);
  expected = malloc(lines * line_bytes);
  if (text == NULL || expected == NULL) die("malloc");
  for (size_t i = 0; i < lines * line_bytes; i++) {
    state = state * 1664525u + 1013904223u;
    text[i] = i / line_bytes >= DISTINCT ? text[i - DISTINCT * line_bytes]
              : i % line_bytes == line_bytes - 1 ? '\n'
                                                 : letters[(state >> 16) % (sizeof letters - 1)];
    expected[i] = echo ? text[i] : rot13(text[i]);
  }
}

static void send_batch(struct connection *c, uint64_t now) {
  c->first = (c->first + 1) % DISTINCT;
  c->received = 0;
  c->sent_at = now;
  /* All earlier replies are here, so that both socket buffers are empty and the batch fits. */
  if (send(c->fd, text + c->first * line_bytes, batch_bytes, MSG_NOSIGNAL) != (ssize_t)batch_bytes) die("send");
}

static double percentile(uint64_t count, double share) {
  uint64_t seen = 0;
  for (size_t i = 0; i < SLOTS; i++) {
    seen += latency[i];
    if ((double)seen >= (double)count * share && seen > 0) return (double)i;
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 8 && argc != 9) {
    fprintf(stderr,
            "usage: load PORT CONNECTIONS LINES_IN_FLIGHT LINE_BYTES WARMUP_MS MEASURE_MS SERVER_PID [rot13|echo]\n");
    return 2;
  }
  const size_t connections = strtoul(argv[2], NULL, 10), in_flight = strtoul(argv[3], NULL, 10);
  const uint64_t warmup = strtoull(argv[5], NULL, 10) * 1000000u, measure = strtoull(argv[6], NULL, 10) * 1000000u;
  line_bytes = strtoul(argv[4], NULL, 10);
  batch_bytes = line_bytes * in_flight;
  echo = argc == 9 && strcmp(argv[8], "echo") == 0;
  make_text(in_flight);

  clockid_t server;
  if ((errno = clock_getcpuclockid((pid_t)atoi(argv[7]), &server)) != 0) die("clock_getcpuclockid");

  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int poll = epoll_create1(0);
  struct connection *all = calloc(connections, sizeof *all);
  if (poll < 0 || all == NULL) die("set up");
  for (size_t i = 0; i < connections; i++) {
    const int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
    all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
    all[i].first = i * 17 % DISTINCT;
    if (all[i].fd < 0 || connect(all[i].fd, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
    setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event) != 0) die("epoll_ctl");
  }

  static char reply[256 * 1024];
  struct epoll_event events[256];
  uint64_t now = nanoseconds(CLOCK_MONOTONIC);
  uint64_t begin = now + warmup, begin_cpu = 0, batches = 0;
  int measuring = 0;
  for (size_t i = 0; i < connections; i++) send_batch(&all[i], now);
  for (;;) {
    const int n = epoll_wait(poll, events, 256, 5000);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      errno = n == 0 ? ETIMEDOUT : errno;
      die("no reply");
    }
    now = nanoseconds(CLOCK_MONOTONIC);
    if (!measuring && now >= begin) {
      measuring = 1;
      begin = now;
      begin_cpu = nanoseconds(server);
    } else if (measuring && now - begin >= measure) break;
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      const ssize_t got = recv(c->fd, reply, sizeof reply, 0);
      if (got <= 0) {
        if (got == 0) errno = ECONNRESET;
        die("recv");
      }
      if (c->received + (size_t)got > batch_bytes ||
          memcmp(reply, expected + c->first * line_bytes + c->received, (size_t)got) != 0) {
        fprintf(stderr, "load: a reply differs from what was expected\n");
        return 1;
      }
      c->received += (size_t)got;
      if (c->received < batch_bytes) continue;
      if (measuring) {
        const uint64_t us = (now - c->sent_at) / 1000;
        latency[us < SLOTS ? us : SLOTS - 1]++;
        batches++;
      }
      send_batch(c, now);
    }
  }
  const double seconds = (double)(now - begin) / 1e9, cpu = (double)(nanoseconds(server) - begin_cpu) / 1e9;
  printf("{\"lines\":%llu,\"seconds\":%.6f,\"cpuSeconds\":%.6f,\"p50Us\":%.0f,\"p99Us\":%.0f}\n",
         (unsigned long long)(batches * in_flight), seconds, cpu, percentile(batches, 0.5), percentile(batches, 0.99));
  return 0;
}
