/*
 * Connections that live for one line: connect, send it, read the reply, finish, wait for the server to finish, close. A
 * fixed number of them at a time; every byte of every reply compared.
 *
 *   churn PORT AT_A_TIME LINE_BYTES WARMUP_MS MEASURE_MS SERVER_PID[,PID]
 *
 * A port is not free for a while after its connection, so they come from many addresses of the loopback.
 */

#define _GNU_SOURCE
#include "load.h"
#include <sys/epoll.h>

#define DISTINCT 997
#define ADDRESSES 200

struct connection {
  int fd, finishing;
  size_t line, received;
  uint64_t begun_at;
};

static size_t line_bytes;
static struct sockaddr_in address;
static int poll;
static uint32_t opened;

static void begin_one(struct connection *c, uint64_t now) {
  const int one = 1;
  struct sockaddr_in from = {.sin_family = AF_INET};
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + opened++ % ADDRESSES);
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("socket");
  /* The port is chosen when the other end is known. */
  setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  if (bind(c->fd, (struct sockaddr *)&from, sizeof from) != 0) die("bind");
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) die("connect");
  c->finishing = 0;
  c->received = 0;
  c->line = (c->line + 1) % DISTINCT;
  c->begun_at = now;
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event) != 0) die("epoll_ctl");
}

static void send_line(struct connection *c) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
  if ((errno = error) != 0) die("connect");
  if (send(c->fd, text + c->line * line_bytes, line_bytes, MSG_NOSIGNAL) != (ssize_t)line_bytes) die("send");
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poll, EPOLL_CTL_MOD, c->fd, &event) != 0) die("epoll_ctl");
}

/* Returns 1 when the connection is over. */
static int receive(struct connection *c) {
  char reply[65536];
  const ssize_t n = recv(c->fd, reply, sizeof reply, 0);
  if (n < 0) die("recv");
  if (n == 0 && c->finishing) return 1;
  if (n == 0 || c->received + (size_t)n > line_bytes ||
      memcmp(reply, expected + c->line * line_bytes + c->received, (size_t)n) != 0) {
    fprintf(stderr, "load: a reply differs from what was expected\n");
    exit(1);
  }
  c->received += (size_t)n;
  if (c->received == line_bytes) {
    shutdown(c->fd, SHUT_WR);
    c->finishing = 1;
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: churn PORT AT_A_TIME LINE_BYTES WARMUP_MS MEASURE_MS PID[,PID]\n");
    return 2;
  }
  const size_t at_a_time = strtoul(argv[2], NULL, 10);
  const uint64_t warmup = strtoull(argv[4], NULL, 10) * 1000000u, measure = strtoull(argv[5], NULL, 10) * 1000000u;
  line_bytes = strtoul(argv[3], NULL, 10);
  make_text(line_bytes, line_bytes, DISTINCT, SIZE_MAX, 1, "rot13");
  name_servers(argv[6]);
  address.sin_family = AF_INET;
  address.sin_port = htons((uint16_t)atoi(argv[1]));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  poll = epoll_create1(0);
  struct connection *all = calloc(at_a_time, sizeof *all);
  if (poll < 0 || all == NULL) die("set up");

  struct epoll_event events[256];
  uint64_t now = nanoseconds(CLOCK_MONOTONIC);
  uint64_t begin = now + warmup, begin_cpu = 0, done = 0;
  int measuring = 0;
  for (size_t i = 0; i < at_a_time; i++) {
    all[i].line = i * 17 % DISTINCT;
    begin_one(&all[i], now);
  }
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
      if (events[i].events & EPOLLOUT) {
        send_line(c);
        continue;
      }
      if (!receive(c)) continue;
      close(c->fd);
      if (measuring) {
        count_latency(now - c->begun_at);
        done++;
      }
      begin_one(c, now);
    }
  }
  report(done, done, now - begin, server_cpu() - begin_cpu);
  return 0;
}
