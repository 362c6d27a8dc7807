/* Replays prepared HTTP/1.1 requests over keep-alive connections and notes each one's status and latency.
 *
 *   replay HOST PORT REQUESTS RESULTS CONNECTIONS SECONDS RATE
 *
 * REQUESTS  records of {u32 length, bytes}, in the machine's byte order; each is sent once, in order.
 * RESULTS   {u32 status, u32 latency in us} per record that was sent, in the same order; status 0: no usable answer.
 * SECONDS   nothing is sent after so long; what is under way then gets another 10 s.
 * RATE 0    closed loop: every connection sends its next request when it has its answer.
 * RATE n    open loop: n requests a second whatever the server does. Latency counts from the moment at which a request
 *           was due, so that a server that stalls cannot hide the requests it kept from being sent.
 *
 * Prints {"seconds": from the first request to the last answer, "io_errors": n}. One thread; Linux only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20, MAX_EVENTS = 256 };
static const uint64_t SECOND = 1000000000ull;

struct result { uint32_t status, latency_us; };

struct connection {
    int fd;             /* -1: closed, opened again when it is needed */
    int is_busy;
    size_t record;      /* of the request under way */
    uint64_t due_at;
    char *answer;
    size_t received;
};

static struct sockaddr_in server;
static int poller;
static const char *cursor, *requests_end;
static struct result *results;
static size_t sent, capacity, in_flight;
static uint64_t io_errors, last_answer_at;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static int open_connection(struct connection *connection) {
    int yes = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&server, sizeof server) < 0) {
        if (connection->fd >= 0) close(connection->fd);
        connection->fd = -1;
        return -1;
    }
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event);
}

static void close_connection(struct connection *connection) {
    close(connection->fd);
    connection->fd = -1;
}

static void finish(struct connection *connection, uint32_t status) {
    last_answer_at = now();
    uint64_t latency_us = (last_answer_at - connection->due_at) / 1000;
    results[connection->record] =
        (struct result){status, latency_us > UINT32_MAX ? UINT32_MAX : (uint32_t)latency_us};
    connection->is_busy = 0;
    in_flight--;
    if (status == 0) {
        io_errors++;
        if (connection->fd >= 0) close_connection(connection);
    }
}

/* Sends the next record; false when there is none. A request fits into the socket's buffer, so send() never waits. */
static int send_next(struct connection *connection, uint64_t due_at) {
    uint32_t length;
    if (cursor + sizeof length > requests_end) return 0;
    memcpy(&length, cursor, sizeof length);
    const char *request = cursor + sizeof length;
    cursor = request + length;
    if (sent == capacity) {
        capacity = capacity ? capacity * 2 : 65536;
        results = realloc(results, capacity * sizeof *results);
        if (results == NULL) fail("realloc");
    }
    connection->record = sent++;
    connection->due_at = due_at;
    connection->received = 0;
    connection->is_busy = 1;
    in_flight++;
    if ((connection->fd < 0 && open_connection(connection) < 0) ||
        send(connection->fd, request, length, MSG_NOSIGNAL) != (ssize_t)length)
        finish(connection, 0);
    return 1;
}

/* Returns the status once the whole answer is there, 0 while it is not, -1 when it is none that we can read. */
static int read_status(struct connection *connection) {
    connection->answer[connection->received] = 0;
    char *head_end = strstr(connection->answer, "\r\n\r\n");
    if (head_end == NULL) return 0;
    char *length = strcasestr(connection->answer, "\r\ncontent-length:");
    if (length == NULL || length > head_end) return -1;
    size_t whole = (size_t)(head_end - connection->answer) + 4 + strtoul(length + 17, NULL, 10);
    if (connection->received < whole) return whole > BUFFER_BYTES ? -1 : 0;
    return atoi(connection->answer + strlen("HTTP/1.1 "));
}

static void receive(struct connection *connection) {
    ssize_t count = recv(connection->fd, connection->answer + connection->received,
                         BUFFER_BYTES - connection->received, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) return;
    if (!connection->is_busy || count <= 0) { /* an answer to nothing, or the server has hung up */
        if (connection->is_busy) finish(connection, 0);
        else close_connection(connection);
        return;
    }
    connection->received += (size_t)count;
    int status = read_status(connection);
    if (status != 0) finish(connection, status < 0 ? 0 : (uint32_t)status);
}

static void wake_at(int timer, uint64_t at) {
    struct itimerspec when = {.it_value = {(time_t)(at / SECOND), (long)(at % SECOND)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void run(struct connection *connections, int count, double seconds, double rate) {
    struct epoll_event events[MAX_EVENTS], timer_event = {.events = EPOLLIN};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), has_more = 1;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &timer_event);
    uint64_t start = now(), end = start + (uint64_t)(seconds * 1e9), give_up = end + 10 * SECOND;
    last_answer_at = start;
    for (;;) {
        uint64_t time = now();
        int may_send = has_more && time < end;
        for (int i = 0; i < count && may_send; i++) {
            if (connections[i].is_busy) continue;
            uint64_t due_at = rate > 0 ? start + (uint64_t)((double)sent * 1e9 / rate) : time;
            if (due_at > time) {
                wake_at(timer, due_at);
                break;
            }
            may_send = has_more = send_next(&connections[i], due_at);
        }
        if ((!may_send && in_flight == 0) || time > give_up) break;
        int ready = epoll_wait(poller, events, MAX_EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            uint64_t expirations;
            struct connection *connection = events[i].data.ptr;
            if (connection == NULL) (void)!read(timer, &expirations, sizeof expirations);
            else if (connection->fd >= 0) receive(connection);
        }
    }
    for (int i = 0; i < count; i++)
        if (connections[i].is_busy) finish(&connections[i], 0);
    printf("{\"seconds\": %.6f, \"io_errors\": %llu}\n", (double)(last_answer_at - start) / 1e9,
           (unsigned long long)io_errors);
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: replay HOST PORT REQUESTS RESULTS CONNECTIONS SECONDS RATE\n");
        return 2;
    }
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(argv[2]));
    if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) fail(argv[1]);
    struct stat file;
    int requests = open(argv[3], O_RDONLY);
    if (requests < 0 || fstat(requests, &file) < 0) fail(argv[3]);
    cursor = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, requests, 0);
    if (cursor == MAP_FAILED) fail(argv[3]);
    requests_end = cursor + file.st_size;
    int count = atoi(argv[5]);
    struct connection *connections = calloc((size_t)count, sizeof *connections);
    poller = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        connections[i].answer = malloc(BUFFER_BYTES + 1);
        if (connections[i].answer == NULL || open_connection(&connections[i]) < 0) fail("connect");
    }
    run(connections, count, atof(argv[6]), atof(argv[7]));
    FILE *output = fopen(argv[4], "wb");
    if (output == NULL || fwrite(results, sizeof *results, sent, output) != sent || fclose(output) != 0)
        fail(argv[4]);
    return 0;
}
