# Sourced: what the host's ports are used for.

# taken PORT: is somebody listening on this real TCP port of the host?
taken() {
    local hex; hex=$(printf '%04X' "$1")
    awk -v hex="$hex" '{ n = split($2, a, ":"); if (a[n] == hex && $4 == "0A") found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6
}
