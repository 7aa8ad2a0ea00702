program="nginx"
what="root: master and two www-data workers, port 80, and 8080 with reuseport; reload; proxy_pass to itself"
port=80
version() { nginx -v 2>&1 | grep -o '[0-9.]*$'; }
setup() {
    chmod 755 .; mkdir html; echo "$own" >html/index.html
    cat >nginx.conf <<END
daemon off; worker_processes 2; pid $folder/nginx.pid; error_log $folder/error.log; user www-data;
events {}
http {
    access_log off; client_body_temp_path $folder/1; proxy_temp_path $folder/2; fastcgi_temp_path $folder/3;
    uwsgi_temp_path $folder/4; scgi_temp_path $folder/5;
    server { listen 80; listen [::]:80; root $folder/html;
        location /peer { return 200 "peer=\$remote_addr server=\$server_addr:\$server_port\n"; }
        location /proxy/ { proxy_pass http://127.0.0.1:8080/; } }
    server { listen 8080 reuseport; root $folder/html; }
}
END
}
start() { wrap nginx -c "$folder/nginx.conf" -e "$folder/error.log"; }
check() {
    expect "$own" inside curl -sS localhost:8080
    expect "$own" inside curl -sS localhost/proxy/
    expect "peer=127.0.0.1 server=127.0.0.1:80" inside curl -sS 127.0.0.1/peer
    ! taken 8080 || fail "port 8080 of the host is taken"
    sed -i 's/peer=/reloaded=/' nginx.conf
    kill -HUP "$(cat nginx.pid)"
    reloaded() { inside curl -s localhost/peer | grep -q reloaded; }
    wait_for 10 reloaded || fail "reload: $(tail -n 3 error.log)"
    for _ in 1 2 3 4 5 6; do expect "$own" inside curl -sS localhost:8080; done
    expect "server" by_name "$instance.$name.localhost" /peer
    if grep -q emerg error.log; then fail "$(grep emerg error.log | head -n 2)"; fi
}
