/* Shows another day to the program that it is loaded into: so many days ahead as FAKETIME_DAYS says. What only measures how long
   something takes, the monotonic clock, stays as it is. The transcripts' `faketime`; see transcripts.rs. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long done = syscall(SYS_clock_gettime, clock, now);
	const char *days = getenv("FAKETIME_DAYS");

	if (done == 0 && days && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += 86400 * atol(days);
	return (int)done;
}
