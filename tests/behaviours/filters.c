/* Cases on programs that forbid themselves system calls, as sandboxes do once a server listens. */
#include "kit.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Has one system call fail with EPERM from now on. */
static void forbid(unsigned call) {
    struct sock_filter lines[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof lines / sizeof *lines, .filter = lines};
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter));
}

/* accept says who the client is although getsockname is forbidden. */
CASE(c_filter_accept) {
    int port = free_port();
    int listener = listening(port);
    int client = connected(port), client_port = own_port(client);
    forbid(SYS_getsockname);
    struct sockaddr_in peer = {0};
    socklen_t length = sizeof peer;
    int accepted = OK(accept(listener, (void *)&peer, &length));
    EQUAL(length, sizeof peer, "the length of the name");
    EQUAL(peer.sin_family, AF_INET, "its family");
    EQUAL(ntohl(peer.sin_addr.s_addr), INADDR_LOOPBACK, "its address");
    EQUAL(ntohs(peer.sin_port), client_port, "its port");
    char byte;
    OK(write(client, "x", 1));
    receive(accepted, &byte, 1);
}
