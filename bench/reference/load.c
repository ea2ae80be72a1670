/*
 * The load of the server benchmarks: many connections, each with a fixed number of lines in flight, every byte of every
 * reply compared. One thread and one epoll, so that the server is what is measured; C, so that the load needs a
 * fraction of the server's CPU.
 *
 *   load PORT CONNECTIONS LINES_IN_FLIGHT LINE_BYTES WARMUP_MS MEASURE_MS SERVER_PID[,PID] [rot13|echo]
 *
 * Prints one line of JSON. The server's CPU time is read from its process clock at both ends of the measured time.
 */

#define _GNU_SOURCE
#include "load.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* How many lines differ; fewer where lines are long, so that text and replies stay within 16 MB each. */
#define DISTINCT_MAX 997
#define TEXT_MAX ((size_t)16 << 20)

struct connection {
  int fd, sending;
  size_t first;    /* the line of the text with which its batch begins */
  size_t sent;     /* bytes of the batch */
  size_t received; /* bytes of the reply */
  uint64_t sent_at;
};

static char *text, *expected;
static size_t line_bytes, batch_bytes, distinct;
static int poll;

/* A long batch does not fit into the socket buffers: the rest leaves while the reply comes in. */
static void send_more(struct connection *c) {
  const ssize_t n = send(c->fd, text + c->first * line_bytes + c->sent, batch_bytes - c->sent, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN) die("send");
  if (n > 0) c->sent += (size_t)n;
  const int sending = c->sent < batch_bytes;
  if (sending == c->sending) return;
  struct epoll_event event = {.events = sending ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poll, EPOLL_CTL_MOD, c->fd, &event) != 0) die("epoll_ctl");
  c->sending = sending;
}

static void send_batch(struct connection *c, uint64_t now) {
  c->first = (c->first + 1) % distinct;
  c->sent = 0;
  c->received = 0;
  c->sent_at = now;
  send_more(c);
}

int main(int argc, char **argv) {
  if (argc != 8 && argc != 9) {
    fprintf(stderr, "usage: load PORT CONNECTIONS LINES_IN_FLIGHT LINE_BYTES WARMUP_MS MEASURE_MS PID[,PID] [rot13|echo]\n");
    return 2;
  }
  const size_t connections = strtoul(argv[2], NULL, 10), in_flight = strtoul(argv[3], NULL, 10);
  const uint64_t warmup = strtoull(argv[5], NULL, 10) * 1000000u, measure = strtoull(argv[6], NULL, 10) * 1000000u;
  line_bytes = strtoul(argv[4], NULL, 10);
  batch_bytes = line_bytes * in_flight;
  distinct = TEXT_MAX / line_bytes < DISTINCT_MAX ? TEXT_MAX / line_bytes : DISTINCT_MAX;
  make_text(&text, &expected, distinct, in_flight, line_bytes, argc == 9 && strcmp(argv[8], "echo") == 0);
  name_servers(argv[7]);

  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  poll = epoll_create1(0);
  struct connection *all = calloc(connections, sizeof *all);
  if (poll < 0 || all == NULL) die("set up");
  for (size_t i = 0; i < connections; i++) {
    const int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
    all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
    all[i].first = i * 17 % distinct;
    if (all[i].fd < 0 || connect(all[i].fd, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
    setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fcntl(all[i].fd, F_SETFL, O_NONBLOCK) != 0) die("fcntl");
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
      begin_cpu = server_cpu();
    } else if (measuring && now - begin >= measure) break;
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) send_more(c);
      if (!(events[i].events & ~(uint32_t)EPOLLOUT)) continue;
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
        count_latency(now - c->sent_at);
        batches++;
      }
      send_batch(c, now);
    }
  }
  report(batches * in_flight, batches, now - begin, server_cpu() - begin_cpu);
  return 0;
}
