/*
 * What `npm run bench -- loop` is compared with: libevent's two benchmarks, as its bench.c and bench_cascade.c do them,
 * written anew. A byte hops from connection to connection, among others that are idle.
 *
 *   loop_bench bench|cascade pair|tcp PAIRS ACTIVE WRITES ROUNDS
 *
 * Prints the microseconds of each round. `pair` is socketpair(), `tcp` the loopback, which JavaScript has to use.
 */

#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct pair {
  int receiver, sender;
};

static struct event_base *base;
static struct pair *pairs;
static struct event **events;
static int count_pairs, active, writes, left, count, fired;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void make_pairs(int tcp) {
  int listening = -1, on = 1;
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  if (tcp) {
    listening = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 128)) die("listen");
    getsockname(listening, (struct sockaddr *)&address, &length);
  }
  for (int i = 0; i < count_pairs; i++) {
    int both[2];
    if (!tcp) {
      if (socketpair(AF_UNIX, SOCK_STREAM, 0, both)) die("socketpair");
    } else {
      both[1] = socket(AF_INET, SOCK_STREAM, 0);
      if (both[1] < 0 || connect(both[1], (struct sockaddr *)&address, sizeof address)) die("connect");
      if ((both[0] = accept(listening, NULL, NULL)) < 0) die("accept");
      setsockopt(both[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    evutil_make_socket_nonblocking(both[0]);
    evutil_make_socket_nonblocking(both[1]);
    pairs[i].receiver = both[0];
    pairs[i].sender = both[1];
  }
  if (listening >= 0) close(listening);
}

static void hop(int to) {
  if (send(pairs[to].sender, "e", 1, 0) != 1) die("send");
}

static void bench_read(evutil_socket_t fd, short what, void *arg) {
  char byte;
  int index = (int)(long)arg;
  (void)what;
  count += recv(fd, &byte, 1, 0);
  if (left > 0) {
    left--;
    fired++;
    hop(index + 1 < count_pairs ? index + 1 : 0);
  }
}

static double bench(void) {
  for (int i = 0; i < count_pairs; i++) {
    if (events[i]) event_free(events[i]);
    events[i] = event_new(base, pairs[i].receiver, EV_READ | EV_PERSIST, bench_read, (void *)(long)i);
    event_add(events[i], NULL);
  }
  event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
  count = 0;
  fired = active;
  left = writes;
  for (int i = 0; i < active; i++) hop(i * (count_pairs / active));
  double begun = now_us();
  do event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
  while (count != fired);
  return now_us() - begun;
}

static void cascade_read(evutil_socket_t fd, short what, void *arg) {
  char byte;
  int index = (int)(long)arg;
  (void)what;
  if (recv(fd, &byte, 1, 0) != 1) die("recv");
  if (index + 1 < count_pairs) hop(index + 1);
}

static double cascade(void) {
  struct timeval minute = {60, 0};
  for (int i = 0; i < count_pairs; i++) {
    if (events[i]) event_free(events[i]);
    events[i] = NULL;
  }
  double begun = now_us();
  for (int i = 0; i < count_pairs; i++) {
    events[i] = event_new(base, pairs[i].receiver, EV_READ, cascade_read, (void *)(long)i);
    event_add(events[i], &minute);
  }
  hop(0);
  event_base_dispatch(base);
  return now_us() - begun;
}

int main(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: loop_bench bench|cascade pair|tcp PAIRS ACTIVE WRITES ROUNDS\n");
    return 2;
  }
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  count_pairs = atoi(argv[3]);
  active = atoi(argv[4]);
  writes = atoi(argv[5]);
  pairs = calloc(count_pairs, sizeof *pairs);
  events = calloc(count_pairs, sizeof *events);
  base = event_base_new();
  make_pairs(!strcmp(argv[2], "tcp"));
  for (int round = 0; round < atoi(argv[6]); round++) printf("%.1f\n", strcmp(argv[1], "cascade") ? bench() : cascade());
  return 0;
}
