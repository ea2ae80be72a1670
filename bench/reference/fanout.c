/*
 * The load of a server that sends each line of a client to all its clients: many connections, one of which sends a line
 * when all of them have received the one before. Every byte is compared.
 *
 *   fanout PORT CONNECTIONS BYTES WARMUP_MS MEASURE_MS SERVER_PID[,PID] [lines|redis]
 *
 * With `redis` the connections subscribe to a channel, and one more publishes the same texts.
 */

#define _GNU_SOURCE
#include "load.h"
#include <sys/epoll.h>

#define DISTINCT 97
#define AT_A_TIME 50
#define SUBSCRIBE "*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nroom\r\n"
#define SUBSCRIBED "*3\r\n$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n"

struct connection {
  int fd;
  size_t received;
};

/* What is sent for a line, and what comes back on each connection. */
struct message {
  char *question, *answer;
  size_t question_bytes, answer_bytes;
};

static void receive_all(int fd, const char *wanted) {
  char reply[256];
  const size_t bytes = strlen(wanted);
  if (recv(fd, reply, bytes, MSG_WAITALL) != (ssize_t)bytes || memcmp(reply, wanted, bytes) != 0) {
    fprintf(stderr, "load: the reply is not \"%s\"\n", wanted);
    exit(1);
  }
}

static void send_all(int fd, const char *bytes, size_t length) {
  if (send(fd, bytes, length, MSG_NOSIGNAL) != (ssize_t)length) die("send");
}

int main(int argc, char **argv) {
  if (argc != 7 && argc != 8) {
    fprintf(stderr, "usage: fanout PORT CONNECTIONS BYTES WARMUP_MS MEASURE_MS PID[,PID] [lines|redis]\n");
    return 2;
  }
  const size_t connections = strtoul(argv[2], NULL, 10), bytes = strtoul(argv[3], NULL, 10);
  const uint64_t warmup = strtoull(argv[4], NULL, 10) * 1000000u, measure = strtoull(argv[5], NULL, 10) * 1000000u;
  const int redis = argc == 8 && strcmp(argv[7], "redis") == 0;
  make_text(bytes, bytes, DISTINCT, SIZE_MAX, 1, "echo");
  name_servers(argv[6]);

  struct message messages[DISTINCT];
  for (size_t i = 0; i < DISTINCT; i++) {
    struct message *m = &messages[i];
    m->question = m->answer = text + i * bytes;
    m->question_bytes = m->answer_bytes = bytes;
    if (!redis) continue;
    m->question = malloc(bytes + 100);
    m->answer = malloc(bytes + 100);
    if (m->question == NULL || m->answer == NULL) die("malloc");
    char *to = m->question + sprintf(m->question, "*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$%zu\r\n", bytes);
    m->question_bytes = (size_t)(stpcpy((char *)memcpy(to, text + i * bytes, bytes) + bytes, "\r\n") - m->question);
    to = m->answer + sprintf(m->answer, "*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$%zu\r\n", bytes);
    m->answer_bytes = (size_t)(stpcpy((char *)memcpy(to, text + i * bytes, bytes) + bytes, "\r\n") - m->answer);
  }

  const int poll = epoll_create1(0);
  struct connection *all = calloc(connections, sizeof *all);
  if (poll < 0 || all == NULL) die("set up");
  for (size_t i = 0; i < connections; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
    all[i].fd = connect_to(argv[1]);
    if (redis) {
      send_all(all[i].fd, SUBSCRIBE, sizeof SUBSCRIBE - 1);
      receive_all(all[i].fd, SUBSCRIBED);
    } else if (i % AT_A_TIME == AT_A_TIME - 1 || i == connections - 1) {
      /* The server has accepted those before when it answers, and there are never more than its backlog holds. */
      send_all(all[i].fd, text, bytes);
      for (size_t j = 0; j <= i; j++) {
        char reply[65536];
        if (recv(all[j].fd, reply, bytes, MSG_WAITALL) != (ssize_t)bytes || memcmp(reply, text, bytes) != 0) die("recv");
      }
    }
    if (epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event) != 0) die("epoll_ctl");
  }
  const int sender = redis ? connect_to(argv[1]) : all[0].fd;
  char published[32];
  snprintf(published, sizeof published, ":%zu\r\n", connections);

  static char reply[65536];
  struct epoll_event events[256];
  uint64_t now = nanoseconds(CLOCK_MONOTONIC), sent_at = now, begin = now + warmup, begin_cpu = 0, lines = 0;
  size_t at = 0, left = connections;
  int measuring = 0;
  send_all(sender, messages[0].question, messages[0].question_bytes);
  for (;;) {
    const int n = epoll_wait(poll, events, 256, 5000);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      errno = n == 0 ? ETIMEDOUT : errno;
      die("no reply");
    }
    const struct message *m = &messages[at];
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      const ssize_t got = recv(c->fd, reply, sizeof reply, 0);
      if (got <= 0) {
        if (got == 0) errno = ECONNRESET;
        die("recv");
      }
      if (c->received + (size_t)got > m->answer_bytes || memcmp(reply, m->answer + c->received, (size_t)got) != 0) {
        fprintf(stderr, "load: a line differs from what was expected\n");
        return 1;
      }
      c->received += (size_t)got;
      if (c->received == m->answer_bytes) left--;
    }
    if (left > 0) continue;
    if (redis) receive_all(sender, published);
    now = nanoseconds(CLOCK_MONOTONIC);
    if (measuring) {
      count_latency(now - sent_at);
      lines++;
      if (now - begin >= measure) break;
    } else if (now >= begin) {
      measuring = 1;
      begin = now;
      begin_cpu = server_cpu();
    }
    for (size_t i = 0; i < connections; i++) all[i].received = 0;
    left = connections;
    at = (at + 1) % DISTINCT;
    sent_at = now;
    send_all(sender, messages[at].question, messages[at].question_bytes);
  }
  report(lines, lines, now - begin, server_cpu() - begin_cpu);
  return 0;
}
