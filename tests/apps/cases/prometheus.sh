program="Prometheus"
what="prometheus, port 9090, which scrapes itself at localhost:9090"
port=9090
path=/api/v1/status/config
version() { prometheus --version 2>&1 | head -n 1 | cut -d' ' -f3; }
setup() {
    cat >prometheus.yml <<END
global: {scrape_interval: 1s, external_labels: {own: $own}}
scrape_configs: [{job_name: self, static_configs: [{targets: ['localhost:9090']}]}]
END
}
start() { wrap prometheus --config.file=prometheus.yml --storage.tsdb.path="$folder/data"; }
check() {
    scraped() { inside curl -s 'localhost:9090/api/v1/query?query=up' | grep -q '"1"'; }
    wait_for 15 scraped || fail "it does not reach itself"
}
