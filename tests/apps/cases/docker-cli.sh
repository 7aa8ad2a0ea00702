program="Docker CLI (Go)"
what="docker --version, docker ps without an engine: as without agentfs"
version() { docker --version; }
try() {
    [ "$(agentfs -q wrap --app "$name" -- docker --version)" = "$(docker --version)" ] || fail "docker --version differs"
    local plain wrapped
    plain=$(DOCKER_HOST=unix://$folder/none docker ps 2>&1; echo $?); wrapped=$(DOCKER_HOST=unix://$folder/none agentfs -q wrap --app "$name" -- docker ps 2>&1; echo $?)
    [ "$plain" = "$wrapped" ] || fail "\"$wrapped\", without agentfs \"$plain\""
}
