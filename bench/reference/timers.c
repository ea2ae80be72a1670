/*
 * What `npm run bench -- timers` is compared with: libevent's timers, as bench/loop/timers.ts uses ours.
 *
 *   timers churn|test-time COUNT ROUNDS
 *
 * `churn` prints a line for each round: the nanoseconds of adding, restarting and deleting one of COUNT timers.
 * `test-time` does what libevent's program of that name does, and prints the milliseconds of CPU.
 */

#include <event2/event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct event_base *base;
static struct event **events;
static uint32_t state;
static int count, fired;

static uint32_t next(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % below;
}

static double nanoseconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void nothing(evutil_socket_t fd, short what, void *arg) {
  (void)fd;
  (void)what;
  (void)arg;
}

static void add_late(struct event *event) {
  const uint32_t ms = 60000 + next(900000);
  const struct timeval after = {ms / 1000, ms % 1000 * 1000};
  event_add(event, &after);
}

static void churn(void) {
  state = 88172645;
  base = event_base_new();
  events = calloc((size_t)count, sizeof *events);
  const double begun = nanoseconds(CLOCK_MONOTONIC);
  for (int i = 0; i < count; i++) add_late(events[i] = evtimer_new(base, nothing, NULL));
  const double added = nanoseconds(CLOCK_MONOTONIC);
  for (int i = 0; i < count; i++) add_late(events[i]);
  const double restarted = nanoseconds(CLOCK_MONOTONIC);
  for (int i = 0; i < count; i++) event_del(events[i]);
  const double deleted = nanoseconds(CLOCK_MONOTONIC);
  printf("%.1f %.1f %.1f\n", (added - begun) / count, (restarted - added) / count, (deleted - restarted) / count);
  for (int i = 0; i < count; i++) event_free(events[i]);
  free(events);
  event_base_free(base);
}

static void add_after(int which, uint32_t us) {
  const struct timeval after = {0, (long)us};
  event_add(events[which], &after);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
  (void)fd;
  (void)what;
  (void)arg;
  if (++fired >= 10 * count) return;
  for (int i = 0; i < 10; i++) {
    const int other = (int)next((uint32_t)count);
    const uint32_t us = next(50000);
    if (us % 2 == 0 || fired < count) add_after(other, us);
    else event_del(events[other]);
  }
}

static void test_time(void) {
  state = 88172645;
  fired = 0;
  base = event_base_new();
  events = calloc((size_t)count, sizeof *events);
  const double begun = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
  for (int i = 0; i < count; i++) {
    events[i] = evtimer_new(base, on_timer, NULL);
    add_after(i, next(50000));
  }
  event_base_dispatch(base);
  printf("%.3f\n", (nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - begun) / 1e6);
  for (int i = 0; i < count; i++) event_free(events[i]);
  free(events);
  event_base_free(base);
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: timers churn|test-time COUNT ROUNDS\n");
    return 2;
  }
  count = atoi(argv[2]);
  for (int round = 0; round < atoi(argv[3]); round++) strcmp(argv[1], "churn") == 0 ? churn() : test_time();
  return 0;
}
