/* Cases in a network of their own, which root can make (unshare(2)): its settings are nobody else's. */
#include "kit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

static void own_network(void) {
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0)
        skip("no network of its own may be made here");
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = OK(socket(AF_INET, SOCK_DGRAM, 0));
    OK(ioctl(fd, SIOCSIFFLAGS, &request));
    close(fd);
}

static void set(const char *path, const char *value) {
    int fd = OK(open(path, O_WRONLY | O_CLOEXEC));
    EQUAL(write(fd, value, strlen(value)), (long long)strlen(value), path);
    close(fd);
}

/* Where any address may be bound (ip_nonlocal_bind, as keepalived and HAProxy pairs have it), an address of another
 * host is still another host's. */
CASE(c_nonlocal_bind_is_no_own_address) {
    own_network();
    set("/proc/sys/net/ipv4/ip_nonlocal_bind", "1");
    int port = free_port(), listener = tcp(), client = tcp(), foreign = tcp();
    struct sockaddr_in any = any4(port), address = any4(port);
    EQUAL(inet_pton(AF_INET, "198.51.100.7", &address.sin_addr), 1, "an address");
    OK(bind(listener, (struct sockaddr *)&any, sizeof any));
    OK(listen(listener, 8));
    FAILS(ENETUNREACH, connect(client, (struct sockaddr *)&address, sizeof address));
    served(listener, port);
    address.sin_port = htons((in_port_t)free_port());
    OK(bind(foreign, (struct sockaddr *)&address, sizeof address));
}
