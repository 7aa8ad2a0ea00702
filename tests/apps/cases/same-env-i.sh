program="env -i, closed stdin/stdout, exec -a, nohup, setsid, timeout, xargs"
what="status and output as without agentfs"
note="the instance is inherited through a scrubbed environment on purpose: LD_PRELOAD and AGENTFS_* are put back, nothing else"
version() { env --version | head -n 1; }
both() {
    local plain wrapped
    plain=$("$@" 2>&1; echo "status $?")
    wrapped=$(agentfs -q wrap --app "$name" -- "$@" 2>&1; echo "status $?")
    [ "$plain" = "$wrapped" ] || fail "\`$*\`: \"$wrapped\", without agentfs \"$plain\""
    echo "same: $* -> $plain"
}
try() {
    both env -i /bin/sh -c 'echo "$HOME$USER"; exit 3'
    both sh -c 'env -i PATH=/bin:/usr/bin A=1 env | grep -vE "^(AGENTFS_|LD_PRELOAD=)" | sort'
    both sh -c 'exec <&- >&-; cat; echo no; exit 4'
    both sh -c 'exec 2>&-; ls /nonexistent; exit 5'
    both sh -c 'kill -TERM $$'
    both sh -c 'ulimit -n 16; ls -d /; exit 0'
    both bash -c 'exec -a other sh -c "echo \$0"'
    both nohup sh -c 'echo out'
    both setsid -w sh -c 'exit 9'
    both timeout 0.2 sleep 5
    both sh -c 'seq 5 | xargs -P 3 -n 1 true; seq 3 | sort -r'
    both sh -c 'yes | head -n 1'
    both sh -c 'ls /proc/self/fd | wc -l'
    both python3 -c 'import os; os.closerange(3, 100); os.execv("/bin/echo", ["echo", "hi"])'
}
