/*
 * The load of the server benchmarks: many connections, each with a number of lines in flight, every byte of every reply
 * compared. One thread and one epoll, so that the server is what is measured; C, so that the load needs a fraction of the
 * server's CPU.
 *
 *   load PORT CONNECTIONS IN_FLIGHT[-MOST] BYTES[-MOST] WARMUP_MS MEASURE_MS|COUNTn SERVER_PID[,PID] [rot13|echo|frames]
 *
 * With two numbers, each size, and the number in flight of each batch, is drawn at random; it is the same for every server.
 * A message is then so many bytes as the mean of all, since a faster server gets further in what was drawn.
 * `20000n` measures the first 20,000 lines, with the connections that they come on, in place of a time.
 *
 * Prints one line of JSON. The server's CPU time is read from its process clock at both ends of the measured time.
 */

#define _GNU_SOURCE
#include "load.h"
#include <fcntl.h>
#include <sys/epoll.h>

/* How many lines differ; fewer where lines are long, so that text and replies stay within 16 MB each. */
#define DISTINCT_MAX 1999
#define TEXT_MAX ((size_t)16 << 20)

struct connection {
  int fd, sending;
  uint32_t random;
  size_t first, lines; /* of the text: its batch */
  size_t sent;         /* bytes of the batch */
  size_t received;     /* bytes of the reply */
  uint64_t sent_at;
};

static size_t distinct, least_in_flight, in_flight;
static int poll, random_sizes;

static size_t batch_bytes(const struct connection *c) { return offsets[c->first + c->lines] - offsets[c->first]; }

/* A long batch does not fit into the socket buffers: the rest leaves while the reply comes in. */
static void send_more(struct connection *c) {
  const ssize_t n = send(c->fd, text + offsets[c->first] + c->sent, batch_bytes(c) - c->sent, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN) die("send");
  if (n > 0) c->sent += (size_t)n;
  const int sending = c->sent < batch_bytes(c);
  if (sending == c->sending) return;
  struct epoll_event event = {.events = sending ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poll, EPOLL_CTL_MOD, c->fd, &event) != 0) die("epoll_ctl");
  c->sending = sending;
}

static void send_batch(struct connection *c, uint64_t now) {
  /* Sizes that are drawn differ from one part of the text to the next. */
  c->first = random_sizes ? next_random(&c->random) % distinct : (c->first + 1) % distinct;
  c->lines = least_in_flight + next_random(&c->random) % (in_flight - least_in_flight + 1);
  c->sent = 0;
  c->received = 0;
  c->sent_at = now;
  send_more(c);
}

int main(int argc, char **argv) {
  if (argc != 8 && argc != 9) {
    fprintf(stderr, "usage: load PORT CONNECTIONS IN_FLIGHT[-MOST] BYTES[-MOST] WARMUP_MS MEASURE_MS|COUNTn PID[,PID] "
                    "[rot13|echo|frames]\n");
    return 2;
  }
  const size_t connections = strtoul(argv[2], NULL, 10);
  const int counted = argv[6][strlen(argv[6]) - 1] == 'n';
  const uint64_t warmup = strtoull(argv[5], NULL, 10) * 1000000u, limit = strtoull(argv[6], NULL, 10);
  const uint64_t measure = limit * 1000000u;
  size_t least, most;
  read_range(argv[3], &least_in_flight, &in_flight);
  read_range(argv[4], &least, &most);
  random_sizes = least != most;
  distinct = make_text(least, most, DISTINCT_MAX, TEXT_MAX, in_flight, argc == 9 ? argv[8] : "rot13");
  name_servers(argv[7]);

  uint64_t begin_cpu = server_cpu(), batches = 0, messages = 0, bytes = 0;
  poll = epoll_create1(0);
  struct connection *all = calloc(connections, sizeof *all);
  if (poll < 0 || all == NULL) die("set up");
  for (size_t i = 0; i < connections; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
    all[i].fd = connect_to(argv[1]);
    all[i].first = i * 17 % distinct;
    all[i].random = (uint32_t)i * 7919u + 1;
    if (fcntl(all[i].fd, F_SETFL, O_NONBLOCK) != 0) die("fcntl");
    if (epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event) != 0) die("epoll_ctl");
  }

  static char reply[256 * 1024];
  struct epoll_event events[256];
  uint64_t now = nanoseconds(CLOCK_MONOTONIC);
  uint64_t begin = counted ? now : now + warmup;
  int measuring = counted;
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
    } else if (measuring && (counted ? messages >= limit : now - begin >= measure)) break;
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) send_more(c);
      if (!(events[i].events & ~(uint32_t)EPOLLOUT)) continue;
      const ssize_t got = recv(c->fd, reply, sizeof reply, 0);
      if (got <= 0) {
        if (got == 0) errno = ECONNRESET;
        die("recv");
      }
      if (c->received + (size_t)got > batch_bytes(c) ||
          memcmp(reply, expected + offsets[c->first] + c->received, (size_t)got) != 0) {
        fprintf(stderr, "load: a reply differs from what was expected\n");
        return 1;
      }
      c->received += (size_t)got;
      if (c->received < batch_bytes(c)) continue;
      if (measuring) {
        count_latency(now - c->sent_at);
        batches++;
        messages += c->lines;
        bytes += batch_bytes(c);
      }
      send_batch(c, now);
    }
  }
  if (random_sizes) messages = (uint64_t)((double)bytes * (double)distinct / (double)offsets[distinct] + 0.5);
  report(messages, batches, now - begin, server_cpu() - begin_cpu);
  return 0;
}
