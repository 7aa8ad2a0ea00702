/* An epoll server on [::]:PORT (dual stack), one thread, non-blocking: answers with its instance's name. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int failed(const char *call) {
    printf("{\"call\": \"%s\", \"errno\": %d}\n", call, errno);
    fflush(stdout);
    return 1;
}

static void answer(int connection, const char *text) {
    char request[4096];
    ssize_t length = recv(connection, request, sizeof request, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (length > 0) send(connection, text, strlen(text), MSG_NOSIGNAL);
    close(connection);
}

int main(int count, char **words) {
    if (count < 2) return 2;
    char body[128], text[256];
    snprintf(body, sizeof body, "%s/%s", getenv("AGENTFS_APP"), getenv("AGENTFS_INSTANCE"));
    snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
             strlen(body), body);
    int server = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1, off = 0;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(server, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    /* Registered before it is bound, as Asio does. */
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event interest = {.events = EPOLLIN, .data.fd = server};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, server, &interest) != 0) return failed("epoll_ctl");
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)atoi(words[1]))};
    if (bind(server, (struct sockaddr *)&address, sizeof address) != 0) return failed("bind");
    if (listen(server, 64) != 0) return failed("listen");
    puts("listening");
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[32];
        int number = epoll_wait(epoll, ready, 32, -1);
        if (number < 0 && errno != EINTR) return failed("epoll_wait");
        for (int index = 0; index < number; index++) {
            if (ready[index].data.fd != server) {
                answer(ready[index].data.fd, text);
                continue;
            }
            int connection = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (connection < 0) {
                if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR && errno != EMFILE)
                    return failed("accept4");
                continue;
            }
            struct epoll_event one = {.events = EPOLLIN, .data.fd = connection};
            epoll_ctl(epoll, EPOLL_CTL_ADD, connection, &one);
        }
    }
}
