/* A keep-alive HTTP server on one thread: epoll, edge-triggered, every request read until EAGAIN. Port in argv[1]. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n";

int main(int count, char **arguments) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(arguments[1]) : 9000)};
    static char answer[sizeof head - 1 + 1024], input[65536];
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = listener}, ready[64];
    memset(answer, 'x', sizeof answer);
    memcpy(answer, head, sizeof head - 1);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&name, sizeof name) < 0 || listen(listener, 512) < 0) return 1;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int events = epoll_wait(poller, ready, 64, -1);
        for (int i = 0; i < events; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    event = (struct epoll_event){.events = EPOLLIN | EPOLLET | EPOLLRDHUP, .data.fd = fd};
                    setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
                    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
                }
                continue;
            }
            /* The client sends one request at a time, in one piece. */
            ssize_t got;
            while ((got = read(fd, input, sizeof input)) > 0)
                if (write(fd, answer, sizeof answer) != sizeof answer) break;
            if (got == 0 || (got < 0 && errno != EAGAIN)) close(fd);
        }
    }
}
