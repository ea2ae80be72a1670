/*
 * A load that asks at a fixed rate, for latencies: the connections take turns, and each line is sent when it is due,
 * whether or not earlier ones were answered. A latency counts from the time when its line was due, so a server that stalls
 * pays for all lines that it keeps waiting. It never sleeps, so that its own timer is not in the latencies.
 *
 *   paced PORT CONNECTIONS LINES_PER_SECOND BYTES WARMUP_MS MEASURE_MS SERVER_PID[,PID] [rot13|echo|frames]
 */

#define _GNU_SOURCE
#include "load.h"
#include <fcntl.h>
#include <sys/epoll.h>

#define DISTINCT 997
/* How many lines of a connection may wait for their answer. */
#define WAITING_MAX 4096

struct connection {
  int fd;
  size_t line;     /* of the text: the one that is answered next */
  size_t received; /* bytes of its answer */
  size_t asked, answered;
  uint64_t due[WAITING_MAX];
};

int main(int argc, char **argv) {
  if (argc != 8 && argc != 9) {
    fprintf(stderr, "usage: paced PORT CONNECTIONS LINES_PER_SECOND BYTES WARMUP_MS MEASURE_MS PID[,PID] [rot13|echo|frames]\n");
    return 2;
  }
  const size_t connections = strtoul(argv[2], NULL, 10), bytes = strtoul(argv[4], NULL, 10);
  const double every = 1e9 / strtod(argv[3], NULL);
  const uint64_t warmup = strtoull(argv[5], NULL, 10) * 1000000u, measure = strtoull(argv[6], NULL, 10) * 1000000u;
  make_text(bytes, bytes, DISTINCT, SIZE_MAX, DISTINCT, argc == 9 ? argv[8] : "rot13");
  name_servers(argv[7]);

  const int poll = epoll_create1(0);
  struct connection *all = calloc(connections, sizeof *all);
  if (poll < 0 || all == NULL) die("set up");
  for (size_t i = 0; i < connections; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
    all[i].fd = connect_to(argv[1]);
    all[i].line = i * 17 % DISTINCT;
    if (fcntl(all[i].fd, F_SETFL, O_NONBLOCK) != 0) die("fcntl");
    if (epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event) != 0) die("epoll_ctl");
  }

  static char reply[256 * 1024];
  struct epoll_event events[256];
  const uint64_t begun = nanoseconds(CLOCK_MONOTONIC), begin = begun + warmup;
  uint64_t begin_cpu = 0, asked = 0, answers = 0, last_answer = begun;
  int measuring = 0;
  for (;;) {
    uint64_t now = nanoseconds(CLOCK_MONOTONIC);
    if (!measuring && now >= begin) {
      measuring = 1;
      begin_cpu = server_cpu();
    } else if (measuring && now - begin >= measure) break;
    if (now - last_answer > 5000000000u) {
      errno = ETIMEDOUT;
      die("no reply");
    }
    for (uint64_t due; (due = begun + (uint64_t)((double)asked * every)) <= now; asked++) {
      struct connection *c = &all[asked % connections];
      if (c->asked - c->answered == WAITING_MAX) {
        fprintf(stderr, "load: the server does not keep up with the rate\n");
        return 1;
      }
      const size_t line = (c->line + c->asked - c->answered) % DISTINCT;
      if (send(c->fd, text + line * bytes, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) die("send");
      c->due[c->asked++ % WAITING_MAX] = due;
    }
    const int n = epoll_wait(poll, events, 256, 0);
    if (n < 0 && errno != EINTR) die("epoll_wait");
    now = nanoseconds(CLOCK_MONOTONIC);
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      const ssize_t got = recv(c->fd, reply, sizeof reply, 0);
      if (got <= 0) {
        if (got == 0) errno = ECONNRESET;
        die("recv");
      }
      last_answer = now;
      for (ssize_t at = 0; at < got;) {
        const size_t left = bytes - c->received, part = left < (size_t)(got - at) ? left : (size_t)(got - at);
        if (c->answered == c->asked || memcmp(reply + at, expected + c->line * bytes + c->received, part) != 0) {
          fprintf(stderr, "load: a reply differs from what was expected\n");
          return 1;
        }
        at += (ssize_t)part;
        c->received += part;
        if (c->received < bytes) continue;
        const uint64_t due = c->due[c->answered++ % WAITING_MAX];
        c->received = 0;
        c->line = (c->line + 1) % DISTINCT;
        if (due < begin) continue;
        count_latency(now - due);
        answers++;
      }
    }
  }
  report(answers, answers, nanoseconds(CLOCK_MONOTONIC) - begin, server_cpu() - begin_cpu);
  return 0;
}
